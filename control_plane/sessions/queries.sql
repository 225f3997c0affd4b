-- name: hold_profile
-- Held until the session is committed: a revocation of all the profile's sessions comes wholly before it or wholly after it.
SELECT status FROM catalyst.profiles WHERE id = $1 FOR SHARE;

-- name: clock
SELECT clock_timestamp();

-- name: insert
INSERT INTO catalyst.sessions (org_id, profile_id, amr, acr, auth_time, token_expires_at, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
RETURNING id, profile_id AS profile, org_id AS org, amr, acr, auth_time, token_expires_at, revoked_at, created_at;

-- name: list
SELECT id, profile_id AS profile, org_id AS org, amr, acr, auth_time, token_expires_at, revoked_at, created_at
FROM catalyst.sessions
WHERE profile_id = $1
  AND ($2::uuid IS NULL OR org_id = $2)
  AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4::uuid))
ORDER BY created_at DESC, id DESC
LIMIT $5;

-- name: find
SELECT id, profile_id AS profile, org_id AS org, amr, acr, auth_time, token_expires_at, revoked_at, created_at
FROM catalyst.sessions
WHERE id = $1 AND ($2::uuid IS NULL OR org_id = $2);

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

-- name: revoke_all
UPDATE catalyst.sessions
SET revoked_at = now()
WHERE profile_id = $1
  AND ($2::uuid IS NULL OR org_id = $2)
  AND revoked_at IS NULL
  AND token_expires_at > now()
RETURNING id;
