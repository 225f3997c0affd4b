-- name: hold_profile
-- Held until the session is committed: a revocation of all the profile's sessions comes wholly before it or wholly after it.
SELECT FROM catalyst.profiles WHERE id = $1 FOR SHARE;

-- name: hold_key
-- Held until the session is committed: the end of the key comes wholly before it, or ends it too.
SELECT profile_id AS profile, org_id AS org, scopes, entitlements, expires_at
FROM catalyst.api_keys
WHERE id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
FOR SHARE;

-- name: clock
SELECT clock_timestamp();

-- name: insert
INSERT INTO catalyst.sessions (org_id, profile_id, amr, acr, auth_time, token_expires_at, created_at, address,
                               provider_id, issuer, subject, upstream_sid, api_key_id, made_from)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::inet, $9, $10, $11, $12, $13, $14)
RETURNING id, profile_id AS profile, org_id AS org, provider_id AS provider, amr, acr, auth_time, token_expires_at, created_at,
          api_key_id AS api_key, made_from;
