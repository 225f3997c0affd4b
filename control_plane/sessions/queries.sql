-- name: hold_profile
-- Held until the session is committed: a revocation of all the profile's sessions comes wholly before it or wholly after it.
SELECT status FROM catalyst.profiles WHERE id = $1 FOR SHARE;

-- name: clock
SELECT clock_timestamp();

-- name: insert
INSERT INTO catalyst.sessions (org_id, profile_id, amr, acr, auth_time, token_expires_at, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
RETURNING id, profile_id AS profile, org_id AS org, amr, acr, auth_time, token_expires_at, revoked_at, created_at;

-- name: find
SELECT id, profile_id AS profile, org_id AS org, amr, acr, auth_time, token_expires_at, revoked_at, created_at
FROM catalyst.sessions
WHERE id = $1 AND ($2::uuid IS NULL OR org_id = $2);

-- name: list
SELECT id, profile_id AS profile, org_id AS org, amr, acr, auth_time, token_expires_at, revoked_at, created_at
FROM catalyst.sessions
WHERE ($1::uuid IS NULL OR org_id = $1)
  AND ($2::uuid IS NULL OR org_id = $2)
  AND ($3::uuid IS NULL OR profile_id = $3)
  AND ($4::boolean IS NULL OR $4 = (revoked_at IS NULL AND token_expires_at > now()))
  AND ($5::timestamptz IS NULL OR (created_at, id) < ($5, $6::uuid))
ORDER BY created_at DESC, id DESC
LIMIT $7;

-- name: lock
SELECT id, profile_id AS profile, org_id AS org, amr, acr, auth_time, token_expires_at, revoked_at, created_at
FROM catalyst.sessions
WHERE id = $1 AND ($2::uuid IS NULL OR org_id = $2)
FOR UPDATE;

-- name: revoke
UPDATE catalyst.sessions SET revoked_at = now() WHERE id = $1 RETURNING id, org_id AS org, revoked_at;

-- name: forget_before
-- Whole seconds, as `iat` counts: what was issued earlier in this second is ended by its session below.
UPDATE catalyst.profiles
SET sessions_not_before = date_trunc('second', clock_timestamp())
WHERE id = $1
RETURNING id, sessions_not_before;

-- name: hold_org
-- A session that is being made holds its org's row by its foreign key: it comes wholly before what follows, or wholly after it.
SELECT FROM catalyst.orgs WHERE id = $1 FOR UPDATE;

-- name: revoke_all
UPDATE catalyst.sessions
SET revoked_at = now()
WHERE profile_id = $1
  AND ($2::uuid IS NULL OR org_id = $2)
  AND revoked_at IS NULL
  AND token_expires_at > now()
RETURNING id;

-- name: revoke_some_of_org
-- At most $2 of those that are left. Nobody else ends them meanwhile: the org is held, but for one at a time.
WITH ended AS (
    UPDATE catalyst.sessions
    SET revoked_at = now()
    WHERE id = ANY (ARRAY(
        SELECT id
        FROM catalyst.sessions
        WHERE org_id = $1 AND revoked_at IS NULL AND token_expires_at > now()
        LIMIT $2
        FOR UPDATE))
    RETURNING id
)
SELECT count(*) FROM ended;
