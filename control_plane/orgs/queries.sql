-- name: insert
INSERT INTO catalyst.orgs (slug, name) VALUES ($1, $2) RETURNING *;

-- name: insert_system_org
INSERT INTO catalyst.orgs (slug, name, is_system) VALUES ('catalyst', 'Catalyst', true) ON CONFLICT DO NOTHING RETURNING *;

-- name: lock_system_org
SELECT * FROM catalyst.orgs WHERE is_system FOR UPDATE;

-- name: find
SELECT * FROM catalyst.orgs WHERE (id = $1 OR slug = $2) AND ($3::uuid IS NULL OR id = $3);

-- name: lock
SELECT * FROM catalyst.orgs WHERE (id = $1 OR slug = $2) AND ($3::uuid IS NULL OR id = $3) FOR UPDATE;

-- name: list
SELECT *
FROM catalyst.orgs
WHERE ($1::uuid IS NULL OR id = $1)
  AND ($2::text IS NULL OR status = $2)
  AND ($3::text IS NULL OR slug > $3)
ORDER BY slug
LIMIT $4;

-- name: update
UPDATE catalyst.orgs
SET name = $2, status = $3, session_idle_seconds = $4, session_lifetime_seconds = $5, updated_at = now()
WHERE id = $1
RETURNING *;

-- name: delete
DELETE FROM catalyst.orgs WHERE id = $1;
