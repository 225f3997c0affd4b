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
WITH RECURSIVE upwards AS (
    SELECT id, parent_id FROM catalyst.groups WHERE org_id = $1 AND id = ANY ($3::uuid[])
    UNION
    SELECT parent.id, parent.parent_id FROM upwards JOIN catalyst.groups parent ON parent.id = upwards.parent_id
)
SELECT DISTINCT entitlement::text AS entitlement
FROM catalyst.grants
WHERE org_id = $1
  AND entitlement LIKE 'catalyst:%'
  AND (expires_at IS NULL OR expires_at > now())
  AND (role_id = ANY ($2::uuid[]) OR group_id IN (SELECT id FROM upwards) OR ($4::uuid IS NOT NULL AND (subject_kind = 'org' OR profile_id = $4)));
