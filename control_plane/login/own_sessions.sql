-- name: names
-- What the orgs and identity providers of somebody's sessions are called.
SELECT id, name FROM catalyst.orgs WHERE id = ANY ($1)
UNION ALL
SELECT id, name FROM catalyst.identity_providers WHERE id = ANY ($1);
