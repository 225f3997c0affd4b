-- name: lock
SELECT id, profile_id AS profile, org_id AS org, provider_id AS provider, amr, acr, auth_time, device, host(address) AS address,
       last_seen_at, token_expires_at, idle_ends_at AS idle_expires_at, ends_at AS expires_at, revoked_at, end_cause AS cause,
       made_from, api_key_id AS api_key, created_at
FROM catalyst.sessions
WHERE id = $1 AND ($2::uuid IS NULL OR org_id = $2)
FOR UPDATE;

-- name: revoke
UPDATE catalyst.sessions SET revoked_at = now(), end_cause = $2 WHERE id = $1 RETURNING id, org_id AS org, revoked_at;

-- name: end
-- One that has ended, by itself or before, stays as it is.
UPDATE catalyst.sessions
SET revoked_at = now(), end_cause = $2
WHERE id = $1 AND revoked_at IS NULL AND usable_until > now()
RETURNING id, org_id AS org, revoked_at;

-- name: forget_before
-- Whole seconds, as `iat` counts: what was issued earlier in this second is ended by its session below.
UPDATE catalyst.profiles
SET sessions_not_before = date_trunc('second', clock_timestamp())
WHERE id = $1
RETURNING sessions_not_before;

-- name: hold_profile
-- A login that has begun holds it too: it comes wholly before what follows, or wholly after it.
SELECT FROM catalyst.profiles WHERE id = $1 FOR NO KEY UPDATE;

-- name: hold_org
-- A session that is being made holds its org's row by its foreign key: it comes wholly before what follows, or wholly after it.
SELECT FROM catalyst.orgs WHERE id = $1 FOR UPDATE;

-- name: end_all
-- All but $3. In the order of their ids: two that end many at once do not wait for each other in a ring.
UPDATE catalyst.sessions
SET revoked_at = now(), end_cause = $4
WHERE id = ANY (ARRAY(
    SELECT id
    FROM catalyst.sessions
    WHERE profile_id = $1
      AND ($2::uuid IS NULL OR org_id = $2)
      AND ($3::uuid IS NULL OR id <> $3)
      AND revoked_at IS NULL
      AND usable_until > now()
    ORDER BY id
    FOR UPDATE))
RETURNING id;

-- name: end_unfounded
UPDATE catalyst.sessions
SET revoked_at = now(), end_cause = 'administrator'
WHERE id = ANY (ARRAY(
    SELECT s.id
    FROM catalyst.sessions s
    JOIN catalyst.profiles p ON p.id = s.profile_id
    WHERE s.profile_id = $1
      AND s.revoked_at IS NULL
      AND s.usable_until > now()
      -- Those that were minted last as long as their one token, which is refused while the profile is not active.
      AND (p.status <> 'active' AND s.absolute_ends_at IS NOT NULL
           OR s.provider_id IS NOT NULL AND NOT EXISTS (
               SELECT FROM catalyst.identities i
               WHERE i.issuer = s.issuer AND i.subject = s.subject AND i.profile_id = s.profile_id))
    ORDER BY s.id
    FOR UPDATE OF s))
RETURNING id;

-- name: end_subject
-- Of a session whose provider told no name for it ($3), the subject alone is compared. Both moments are by the provider's clock.
UPDATE catalyst.sessions
SET revoked_at = now(), end_cause = 'provider'
WHERE id = ANY (ARRAY(
    SELECT id
    FROM catalyst.sessions
    WHERE provider_id = $1
      AND ($2 = '' OR subject = $2)
      AND ($3 = '' OR upstream_sid = $3 OR (upstream_sid = '' AND $2 <> ''))
      AND ($2 <> '' OR $3 <> '')
      AND ($4::timestamptz IS NULL OR auth_time < $4 + interval '1 second')
      AND revoked_at IS NULL
      AND usable_until > now()
    ORDER BY id
    FOR UPDATE))
RETURNING id, org_id AS org, revoked_at;

-- name: end_some_of_provider
-- At most $2 of those that are left. Nobody logs in by it meanwhile: the provider is held.
WITH ended AS (
    UPDATE catalyst.sessions
    SET revoked_at = now(), end_cause = 'provider'
    WHERE id = ANY (ARRAY(
        SELECT id
        FROM catalyst.sessions
        WHERE provider_id = $1 AND revoked_at IS NULL AND usable_until > now()
        ORDER BY id
        LIMIT $2
        FOR UPDATE))
    RETURNING id
)
SELECT count(*) FROM ended;

-- name: revoke_some_of_org
-- At most $2 of those that are left. Nobody else ends them meanwhile: the org is held, but for one at a time.
WITH ended AS (
    UPDATE catalyst.sessions
    SET revoked_at = now(), end_cause = 'administrator'
    WHERE id = ANY (ARRAY(
        SELECT id
        FROM catalyst.sessions
        WHERE org_id = $1 AND revoked_at IS NULL AND ends_at > now() AND usable_until > now()
        ORDER BY id
        LIMIT $2
        FOR UPDATE))
    RETURNING id
)
SELECT count(*) FROM ended;

-- name: forget_ended
-- A session that ended so long ago was made even longer ago, and by when it was made there is an index.
DELETE FROM catalyst.sessions
WHERE id = ANY (ARRAY(
    SELECT id
    FROM catalyst.sessions
    WHERE created_at < now() - make_interval(days => $1) AND LEAST(revoked_at, usable_until) < now() - make_interval(days => $1)
    ORDER BY created_at, id
    LIMIT $2
    FOR UPDATE SKIP LOCKED));

-- name: forget_spent
DELETE FROM catalyst.spent_refresh_tokens
WHERE (chain_id, sha256) IN (
    SELECT chain_id, sha256
    FROM catalyst.spent_refresh_tokens
    WHERE spent_at < now() - make_interval(days => $1)
    ORDER BY spent_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED);
