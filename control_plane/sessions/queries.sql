-- name: hold_profile
-- Held until the session is committed: a revocation of all the profile's sessions comes wholly before it or wholly after it.
SELECT status FROM catalyst.profiles WHERE id = $1 FOR SHARE;

-- name: clock
SELECT clock_timestamp();

-- name: insert
INSERT INTO catalyst.sessions (org_id, profile_id, amr, acr, auth_time, token_expires_at, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
RETURNING id, profile_id AS profile, org_id AS org, provider_id AS provider, amr, acr, auth_time, token_expires_at, created_at;

-- name: find
SELECT id, profile_id AS profile, org_id AS org, provider_id AS provider, amr, acr, auth_time, device, host(address) AS address,
       last_seen_at, token_expires_at, idle_ends_at AS idle_expires_at, ends_at AS expires_at, revoked_at, end_cause AS cause,
       made_from, api_key_id AS api_key, created_at
FROM catalyst.sessions
WHERE id = $1 AND ($2::uuid IS NULL OR org_id = $2);

-- name: list
SELECT id, profile_id AS profile, org_id AS org, provider_id AS provider, amr, acr, auth_time, device, host(address) AS address,
       last_seen_at, token_expires_at, idle_ends_at AS idle_expires_at, ends_at AS expires_at, revoked_at, end_cause AS cause,
       made_from, api_key_id AS api_key, created_at
FROM catalyst.sessions
WHERE ($1::uuid IS NULL OR org_id = $1)
  AND ($2::uuid IS NULL OR org_id = $2)
  AND ($3::uuid IS NULL OR profile_id = $3)
  AND ($4::boolean IS NULL OR $4 = (revoked_at IS NULL AND usable_until > now()))
  AND ($5::timestamptz IS NULL OR (created_at, id) < ($5, $6::uuid))
ORDER BY created_at DESC, id DESC
LIMIT $7;

-- name: of_profile
-- Those that can still be used, the last used first.
SELECT id, org_id AS org, provider_id AS provider, device, host(address) AS address, created_at,
       COALESCE(last_seen_at, created_at) AS last_seen_at, usable_until AS expires_at
FROM catalyst.sessions
WHERE profile_id = $1 AND revoked_at IS NULL AND usable_until > now()
ORDER BY COALESCE(last_seen_at, created_at) DESC, id
LIMIT $2;

-- name: id_token
SELECT id_token_wrapped FROM catalyst.sessions WHERE id = $1;

-- name: sealed_by
SELECT substring(id_token_wrapped FOR 12) AS head, count(*) AS values
FROM catalyst.sessions
WHERE id_token_wrapped <> ''
GROUP BY 1;

-- name: sealed
SELECT id::text AS key, id_token_wrapped AS sealed
FROM catalyst.sessions
WHERE id_token_wrapped <> '' AND ($1::text IS NULL OR id > $1::uuid)
ORDER BY id
LIMIT $2
FOR UPDATE;

-- name: reseal
UPDATE catalyst.sessions s
SET id_token_wrapped = new.sealed
FROM unnest($1::text[], $2::bytea[]) AS new (key, sealed)
WHERE s.id = new.key::uuid;
