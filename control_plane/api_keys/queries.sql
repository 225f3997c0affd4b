-- name: insert
INSERT INTO catalyst.api_keys (id, org_id, profile_id, name, secret_sha256, scopes, entitlements, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
RETURNING id, org_id AS org, profile_id AS profile, name, scopes, entitlements, expires_at, revoked_at, created_at;

-- name: find
SELECT id, org_id AS org, profile_id AS profile, name, scopes, entitlements, expires_at, revoked_at, created_at
FROM catalyst.api_keys
WHERE id = $1 AND ($2::uuid IS NULL OR org_id = $2);

-- name: lock
SELECT id, org_id AS org, profile_id AS profile, name, scopes, entitlements, expires_at, revoked_at, created_at
FROM catalyst.api_keys
WHERE id = $1 AND ($2::uuid IS NULL OR org_id = $2)
FOR UPDATE;

-- name: list
SELECT id, org_id AS org, profile_id AS profile, name, scopes, entitlements, expires_at, revoked_at, created_at
FROM catalyst.api_keys
WHERE ($1::uuid IS NULL OR org_id = $1)
  AND ($2::uuid IS NULL OR org_id = $2)
  AND ($3::uuid IS NULL OR profile_id = $3)
  AND ($4::uuid IS NULL OR id > $4)
ORDER BY id
LIMIT $5;

-- name: revoke
UPDATE catalyst.api_keys
SET revoked_at = now()
WHERE id = $1
RETURNING id, org_id AS org, profile_id AS profile, name, scopes, entitlements, expires_at, revoked_at, created_at;

-- name: end_by
UPDATE catalyst.api_keys
SET expires_at = LEAST(expires_at, $2)
WHERE id = $1
RETURNING id, org_id AS org, profile_id AS profile, name, scopes, entitlements, expires_at, revoked_at, created_at;
