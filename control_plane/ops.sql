-- name: has_signing_key
SELECT EXISTS (SELECT FROM catalyst.signing_keys WHERE status = 'active');
