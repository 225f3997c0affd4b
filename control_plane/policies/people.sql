-- name: take_time
SELECT set_config('statement_timeout', $1, true);

-- name: members
-- What everybody has, in the words of permissions.sql and so of the sidecars: each active member of an active org, or only the
-- pairs of profile ($4) and org ($5). Of entitlements, roles and groups only those named ($1, $2, $3); NULL: all, and everybody.
WITH RECURSIVE member AS (
    SELECT m.id, m.org_id, m.profile_id, o.slug AS org_slug, p.kind, p.email, p.labels
    FROM catalyst.memberships m
    JOIN catalyst.orgs o ON o.id = m.org_id AND o.status = 'active'
    JOIN catalyst.profiles p ON p.id = m.profile_id AND p.status = 'active'
    WHERE $4::uuid[] IS NULL OR (m.profile_id, m.org_id) IN (SELECT * FROM unnest($4::uuid[], $5::uuid[]))
), above AS (
    SELECT id AS group_id, id AS above_id, slug, parent_id FROM catalyst.groups
    UNION
    SELECT above.group_id, parent.id, parent.slug, parent.parent_id
    FROM above
    JOIN catalyst.groups parent ON parent.id = above.parent_id
), held_groups AS MATERIALIZED (
    SELECT DISTINCT member.id, above.above_id, above.slug
    FROM member
    JOIN catalyst.membership_groups mg ON mg.membership_id = member.id
    JOIN above ON above.group_id = mg.group_id
), held_roles AS MATERIALIZED (
    SELECT member.id, r.id AS role_id, r.slug
    FROM member
    JOIN catalyst.membership_roles mr ON mr.membership_id = member.id
    JOIN catalyst.roles r ON r.id = mr.role_id
), live AS MATERIALIZED (
    SELECT * FROM catalyst.grants
    WHERE (expires_at IS NULL OR expires_at > now()) AND ($1::text[] IS NULL OR entitlement = ANY ($1::text[]))
), granted AS (
    SELECT member.id, live.entitlement FROM member JOIN live ON live.org_id = member.org_id AND live.subject_kind = 'org'
    UNION
    SELECT member.id, live.entitlement FROM member JOIN live ON live.membership_id = member.id
    UNION
    SELECT member.id, live.entitlement FROM member JOIN live ON live.profile_id = member.profile_id AND live.org_id = member.org_id
    UNION
    SELECT held_roles.id, live.entitlement FROM held_roles JOIN live ON live.role_id = held_roles.role_id
    UNION
    SELECT held_groups.id, live.entitlement FROM held_groups JOIN live ON live.group_id = held_groups.above_id
), groups AS (
    SELECT id, array_agg(slug::text) AS names FROM held_groups WHERE $3::text[] IS NULL OR slug = ANY ($3::text[]) GROUP BY id
), roles AS (
    SELECT id, array_agg(slug::text) AS names FROM held_roles WHERE $2::text[] IS NULL OR slug = ANY ($2::text[]) GROUP BY id
), entitlements AS (
    SELECT id, array_agg(entitlement::text) AS names FROM granted GROUP BY id
)
SELECT member.profile_id, member.org_id, member.org_slug, member.kind, COALESCE(member.email, '') AS email,
       member.labels::text AS labels, COALESCE(groups.names, '{}') AS groups, COALESCE(roles.names, '{}') AS roles,
       COALESCE(entitlements.names, '{}') AS entitlements
FROM member
LEFT JOIN groups ON groups.id = member.id
LEFT JOIN roles ON roles.id = member.id
LEFT JOIN entitlements ON entitlements.id = member.id
ORDER BY member.org_id, member.profile_id;
