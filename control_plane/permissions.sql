-- name: effective
WITH RECURSIVE member AS (
    SELECT m.id, m.org_id, m.profile_id, p.status AS profile_status, o.status AS org_status, o.is_system,
           (p.status = 'active' AND o.status = 'active') OR $3 AS live
    FROM catalyst.memberships m
    JOIN catalyst.orgs o ON o.id = m.org_id
    JOIN catalyst.profiles p ON p.id = m.profile_id
    WHERE m.profile_id = $1 AND m.org_id = $2
), held_groups AS (
    SELECT g.id, g.slug, g.parent_id
    FROM member
    JOIN catalyst.membership_groups mg ON mg.membership_id = member.id
    JOIN catalyst.groups g ON g.id = mg.group_id
    WHERE member.live
    UNION
    SELECT parent.id, parent.slug, parent.parent_id
    FROM held_groups
    JOIN catalyst.groups parent ON parent.id = held_groups.parent_id
), held_roles AS (
    SELECT r.id, r.slug
    FROM member
    JOIN catalyst.membership_roles mr ON mr.membership_id = member.id
    JOIN catalyst.roles r ON r.id = mr.role_id
    WHERE member.live
), granted AS (
    SELECT DISTINCT gr.entitlement
    FROM member
    JOIN catalyst.grants gr ON gr.org_id = member.org_id
    WHERE member.live
      AND (gr.expires_at IS NULL OR gr.expires_at > now())
      AND (gr.subject_kind = 'org'
           OR gr.membership_id = member.id
           OR gr.profile_id = member.profile_id
           OR gr.role_id IN (SELECT id FROM held_roles)
           OR gr.group_id IN (SELECT id FROM held_groups))
)
SELECT profile_status, org_status, is_system,
       ARRAY(SELECT slug::text COLLATE "C" FROM held_groups ORDER BY 1) AS groups,
       ARRAY(SELECT slug::text COLLATE "C" FROM held_roles ORDER BY 1) AS roles,
       ARRAY(SELECT entitlement::text COLLATE "C" FROM granted ORDER BY 1) AS entitlements
FROM member;

-- name: orgs_of_profile
SELECT org_id FROM catalyst.memberships WHERE profile_id = $1;

-- name: carried
WITH RECURSIVE bringing AS (
    SELECT * FROM jsonb_to_recordset($1::text::jsonb) AS r(n int, org_id uuid, roles uuid[], "groups" uuid[], joining uuid)
), upwards AS (
    SELECT b.n, b.org_id, g.id, g.parent_id
    FROM bringing b JOIN catalyst.groups g ON g.org_id = b.org_id AND g.id = ANY (b.groups)
    UNION
    SELECT u.n, u.org_id, parent.id, parent.parent_id FROM upwards u JOIN catalyst.groups parent ON parent.id = u.parent_id
), subjects AS (
    SELECT n, org_id, 'role' AS kind, unnest(roles) AS id FROM bringing
    UNION ALL
    SELECT n, org_id, 'group', id FROM upwards
    UNION ALL
    SELECT n, org_id, 'org', org_id FROM bringing WHERE joining IS NOT NULL
    UNION ALL
    SELECT n, org_id, 'profile', joining FROM bringing WHERE joining IS NOT NULL
)
SELECT s.n, array_agg(DISTINCT gr.entitlement::text) AS entitlements
FROM subjects s
JOIN catalyst.grants gr ON gr.org_id = s.org_id AND gr.subject_kind = s.kind AND gr.subject_id = s.id
WHERE gr.entitlement LIKE 'catalyst:%' AND (gr.expires_at IS NULL OR gr.expires_at > now())
GROUP BY s.n;
