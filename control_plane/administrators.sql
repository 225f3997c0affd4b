-- name: hold
SELECT id FROM catalyst.orgs WHERE is_system AND ($1 OR id = ANY ($2::uuid[])) FOR NO KEY UPDATE;

-- name: exists
WITH RECURSIVE member AS (
    SELECT m.id, m.profile_id, m.org_id
    FROM catalyst.orgs o
    JOIN catalyst.memberships m ON m.org_id = o.id
    JOIN catalyst.profiles p ON p.id = m.profile_id
    WHERE o.is_system AND p.status = 'active'
      AND (p.kind = 'user'
           OR EXISTS (SELECT FROM catalyst.api_keys k
                      WHERE k.org_id = m.org_id AND k.profile_id = m.profile_id
                        AND k.revoked_at IS NULL AND k.expires_at IS NULL
                        AND (k.entitlements IS NULL OR k.entitlements::text[] @> $1::text[])
                        AND (k.permissions IS NULL OR k.permissions::text[] @> $1::text[])))
), held_groups AS (
    SELECT mg.membership_id, g.id, g.parent_id
    FROM member
    JOIN catalyst.membership_groups mg ON mg.membership_id = member.id
    JOIN catalyst.groups g ON g.id = mg.group_id
    UNION
    SELECT h.membership_id, parent.id, parent.parent_id FROM held_groups h JOIN catalyst.groups parent ON parent.id = h.parent_id
)
SELECT EXISTS (
    SELECT
    FROM member
    WHERE cardinality($1::text[]) = (
        SELECT count(DISTINCT gr.entitlement)
        FROM catalyst.grants gr
        WHERE gr.org_id = member.org_id AND gr.expires_at IS NULL AND gr.entitlement = ANY ($1::text[])
          AND (gr.subject_kind = 'org'
               OR gr.membership_id = member.id
               OR gr.profile_id = member.profile_id
               OR gr.role_id IN (SELECT mr.role_id FROM catalyst.membership_roles mr WHERE mr.membership_id = member.id)
               OR gr.group_id IN (SELECT h.id FROM held_groups h WHERE h.membership_id = member.id))));
