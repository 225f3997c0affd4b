-- name: api_key
SELECT id, org_id, profile_id, secret_sha256, entitlements, permissions,
       revoked_at IS NOT NULL AS revoked,
       expires_at IS NOT NULL AND expires_at <= now() AS expired
FROM catalyst.api_keys
WHERE id = $1;

-- name: session
SELECT s.revoked_at IS NOT NULL AS revoked, p.sessions_not_before, s.api_key_id, k.entitlements, k.permissions
FROM catalyst.sessions s
JOIN catalyst.profiles p ON p.id = s.profile_id
LEFT JOIN catalyst.api_keys k ON k.id = s.api_key_id
WHERE s.id = $1 AND s.profile_id = $2;
