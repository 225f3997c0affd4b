-- name: insert
INSERT INTO catalyst.roles (org_id, slug, name)
VALUES ($1, $2, $3)
RETURNING id, org_id AS org, slug, name, created_at;

-- name: find
SELECT id, org_id AS org, slug, name, created_at
FROM catalyst.roles
WHERE org_id = $1 AND (id = $2 OR slug = $3);

-- name: lock
SELECT id, org_id AS org, slug, name, created_at
FROM catalyst.roles
WHERE org_id = $1 AND (id = $2 OR slug = $3)
FOR UPDATE;

-- name: list
SELECT id, org_id AS org, slug, name, created_at
FROM catalyst.roles
WHERE org_id = $1 AND ($2::text IS NULL OR slug > $2)
ORDER BY slug
LIMIT $3;

-- name: update
UPDATE catalyst.roles SET name = $2 WHERE id = $1 RETURNING id, org_id AS org, slug, name, created_at;

-- name: delete
DELETE FROM catalyst.roles WHERE id = $1;
