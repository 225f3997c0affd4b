-- name: insert
INSERT INTO catalyst.groups (org_id, slug, name, parent_id)
VALUES ($1, $2, $3, $4)
RETURNING id, org_id AS org, slug, name, parent_id AS parent, created_at;

-- name: find
SELECT id, org_id AS org, slug, name, parent_id AS parent, created_at
FROM catalyst.groups
WHERE org_id = $1 AND (id = $2 OR slug = $3);

-- name: lock
SELECT id, org_id AS org, slug, name, parent_id AS parent, created_at
FROM catalyst.groups
WHERE org_id = $1 AND (id = $2 OR slug = $3)
FOR UPDATE;

-- name: list
SELECT id, org_id AS org, slug, name, parent_id AS parent, created_at
FROM catalyst.groups
WHERE org_id = $1
  AND ($2::uuid IS NULL OR parent_id = $2)
  AND ($3::text IS NULL OR slug > $3)
ORDER BY slug
LIMIT $4;

-- name: update
UPDATE catalyst.groups
SET name = $2, parent_id = $3
WHERE id = $1
RETURNING id, org_id AS org, slug, name, parent_id AS parent, created_at;

-- name: delete
DELETE FROM catalyst.groups WHERE id = $1;
