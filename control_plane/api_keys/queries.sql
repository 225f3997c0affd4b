-- name: insert
INSERT INTO catalyst.api_keys (id, org_id, profile_id, name, secret_sha256, scopes, entitlements, permissions, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
RETURNING id, org_id AS org, profile_id AS profile, name, scopes, entitlements, permissions,
       expires_at, revoked_at, last_used_at, created_at;

-- name: find
SELECT id, org_id AS org, profile_id AS profile, name, scopes, entitlements, permissions,
       expires_at, revoked_at, last_used_at, created_at
FROM catalyst.api_keys
WHERE id = $1 AND ($2::uuid IS NULL OR org_id = $2);

-- name: lock
SELECT id, org_id AS org, profile_id AS profile, name, scopes, entitlements, permissions,
       expires_at, revoked_at, last_used_at, created_at
FROM catalyst.api_keys
WHERE id = $1 AND ($2::uuid IS NULL OR org_id = $2)
FOR UPDATE;

-- name: list
SELECT id, org_id AS org, profile_id AS profile, name, scopes, entitlements, permissions,
       expires_at, revoked_at, last_used_at, created_at
FROM catalyst.api_keys
WHERE ($1::uuid IS NULL OR org_id = $1)
  AND ($2::uuid IS NULL OR org_id = $2)
  AND ($3::uuid IS NULL OR profile_id = $3)
  AND ($4::text IS NULL
       OR $4 = CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= now() THEN 'expired' ELSE 'active' END)
  AND ($5::timestamptz IS NULL OR COALESCE(last_used_at, created_at) < $5)
  AND ($6::uuid IS NULL OR id > $6)
ORDER BY id
LIMIT $7;

-- name: revoke
UPDATE catalyst.api_keys
SET revoked_at = now()
WHERE id = $1
RETURNING id, org_id AS org, profile_id AS profile, name, scopes, entitlements, permissions,
       expires_at, revoked_at, last_used_at, created_at;

-- name: end_by
UPDATE catalyst.api_keys
SET expires_at = LEAST(expires_at, $2)
WHERE id = $1
RETURNING id, org_id AS org, profile_id AS profile, name, scopes, entitlements, permissions,
       expires_at, revoked_at, last_used_at, created_at;

-- name: mark_used
-- As replica.report_use() does for sidecars: forward only, to the minute, and what others hold is passed over instead of waited for.
WITH held AS MATERIALIZED (
    SELECT k.id, used.at
    FROM unnest($1::uuid[], $2::timestamptz[]) AS used (id, at)
    JOIN catalyst.api_keys k ON k.id = used.id
    WHERE k.last_used_at IS NULL OR k.last_used_at < used.at - interval '1 minute'
    FOR NO KEY UPDATE OF k SKIP LOCKED
)
UPDATE catalyst.api_keys k SET last_used_at = held.at FROM held WHERE k.id = held.id;
