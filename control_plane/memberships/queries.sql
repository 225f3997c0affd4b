-- name: belongs_elsewhere
SELECT catalyst.belongs_elsewhere($1, $2);

-- name: insert
INSERT INTO catalyst.memberships (org_id, profile_id) VALUES ($1, $2) RETURNING id;

-- name: find
SELECT m.id, m.org_id AS org, m.profile_id AS profile, m.created_at,
       ARRAY(SELECT r.slug::text FROM catalyst.membership_roles mr JOIN catalyst.roles r ON r.id = mr.role_id
             WHERE mr.membership_id = m.id ORDER BY 1) AS roles,
       ARRAY(SELECT g.slug::text FROM catalyst.membership_groups mg JOIN catalyst.groups g ON g.id = mg.group_id
             WHERE mg.membership_id = m.id ORDER BY 1) AS groups
FROM catalyst.memberships m
WHERE m.org_id = $1 AND m.id = $2;

-- name: of_profile
SELECT m.id, m.org_id AS org, m.profile_id AS profile,
       ARRAY(SELECT r.slug::text FROM catalyst.membership_roles mr JOIN catalyst.roles r ON r.id = mr.role_id
             WHERE mr.membership_id = m.id ORDER BY 1) AS roles,
       ARRAY(SELECT g.slug::text FROM catalyst.membership_groups mg JOIN catalyst.groups g ON g.id = mg.group_id
             WHERE mg.membership_id = m.id ORDER BY 1) AS groups
FROM catalyst.memberships m
WHERE m.profile_id = $1
ORDER BY m.id
FOR UPDATE OF m;

-- name: groups_of_member
-- With the row held: two logins of a person at once.
SELECT m.id,
       ARRAY(SELECT mg.group_id FROM catalyst.membership_groups mg WHERE mg.membership_id = m.id) AS groups,
       ARRAY(SELECT g.id FROM catalyst.groups g WHERE g.org_id = $1 AND g.id = ANY ($3::uuid[])) AS existing
FROM catalyst.memberships m
WHERE m.org_id = $1 AND m.profile_id = $2
FOR UPDATE OF m;

-- name: profiles
SELECT profile_id FROM catalyst.memberships WHERE org_id = $1;

-- name: lock
SELECT id FROM catalyst.memberships WHERE org_id = $1 AND id = $2 FOR UPDATE;

-- name: list
SELECT m.id, m.org_id AS org, m.profile_id AS profile, m.created_at,
       ARRAY(SELECT r.slug::text FROM catalyst.membership_roles mr JOIN catalyst.roles r ON r.id = mr.role_id
             WHERE mr.membership_id = m.id ORDER BY 1) AS roles,
       ARRAY(SELECT g.slug::text FROM catalyst.membership_groups mg JOIN catalyst.groups g ON g.id = mg.group_id
             WHERE mg.membership_id = m.id ORDER BY 1) AS groups
FROM catalyst.memberships m
WHERE m.org_id = $1
  AND ($2::uuid IS NULL OR m.profile_id = $2)
  AND ($3::uuid IS NULL OR EXISTS (SELECT FROM catalyst.membership_roles mr WHERE mr.membership_id = m.id AND mr.role_id = $3))
  AND ($4::uuid IS NULL OR EXISTS (SELECT FROM catalyst.membership_groups mg WHERE mg.membership_id = m.id AND mg.group_id = $4))
  AND ($5::uuid IS NULL OR m.id > $5)
ORDER BY m.id
LIMIT $6;

-- name: drop_roles
DELETE FROM catalyst.membership_roles WHERE membership_id = $1 AND role_id <> ALL ($2::uuid[]);

-- name: add_roles
INSERT INTO catalyst.membership_roles (membership_id, role_id, org_id)
SELECT $1, role_id, $3 FROM unnest($2::uuid[]) AS role_id
ON CONFLICT DO NOTHING;

-- name: drop_groups
DELETE FROM catalyst.membership_groups WHERE membership_id = $1 AND group_id <> ALL ($2::uuid[]);

-- name: add_groups
INSERT INTO catalyst.membership_groups (membership_id, group_id, org_id)
SELECT $1, group_id, $3 FROM unnest($2::uuid[]) AS group_id
ON CONFLICT DO NOTHING;

-- name: delete
DELETE FROM catalyst.memberships WHERE id = $1;
