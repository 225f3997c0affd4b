-- Who could do everything before there were webhooks can do everything still. The grants are told like any others: audit log, outbox,
-- revision.

-- No temporary table: who migrates may not make one in a database that is somebody else's. It is gone at the end of this.
CREATE TABLE every_permission AS
SELECT entitlement, entitlement LIKE 'catalyst:webhooks:%' AS is_new
FROM unnest(ARRAY[
    'catalyst:orgs:read', 'catalyst:orgs:write', 'catalyst:profiles:read', 'catalyst:profiles:write', 'catalyst:memberships:read',
    'catalyst:memberships:write', 'catalyst:groups:read', 'catalyst:groups:write', 'catalyst:roles:read', 'catalyst:roles:write',
    'catalyst:grants:read', 'catalyst:grants:write', 'catalyst:api_keys:read', 'catalyst:api_keys:write', 'catalyst:sessions:read',
    'catalyst:sessions:write', 'catalyst:applications:read', 'catalyst:applications:write', 'catalyst:policies:read',
    'catalyst:policies:write', 'catalyst:signing_keys:read', 'catalyst:signing_keys:write', 'catalyst:fleet:read', 'catalyst:audit:read',
    'catalyst:webhooks:read', 'catalyst:webhooks:write']) AS entitlement;

-- Subjects of the system org that were granted every permission there was; what is given ends with the first of these grants.
WITH had AS (
    SELECT g.org_id, g.subject_kind, g.group_id, g.role_id, g.membership_id, g.profile_id, min(g.expires_at) AS expires_at
    FROM grants AS g
    JOIN orgs AS o ON o.id = g.org_id AND o.is_system
    JOIN every_permission AS e ON e.entitlement = g.entitlement AND NOT e.is_new
    WHERE g.expires_at IS NULL OR g.expires_at > now()
    GROUP BY 1, 2, 3, 4, 5, 6
    HAVING count(*) = (SELECT count(*) FROM every_permission WHERE NOT is_new)
)
INSERT INTO grants (org_id, subject_kind, group_id, role_id, membership_id, profile_id, expires_at, entitlement)
SELECT had.*, e.entitlement FROM had CROSS JOIN every_permission AS e WHERE e.is_new
ON CONFLICT DO NOTHING;

-- Members of the system org who had every permission by several of these together.
WITH RECURSIVE member AS (
    SELECT m.id, m.org_id, m.profile_id FROM memberships AS m JOIN orgs AS o ON o.id = m.org_id AND o.is_system
), held_groups AS (
    SELECT mg.membership_id, g.id, g.parent_id
    FROM member AS m
    JOIN membership_groups AS mg ON mg.membership_id = m.id
    JOIN groups AS g ON g.id = mg.group_id
    UNION
    SELECT h.membership_id, parent.id, parent.parent_id FROM held_groups AS h JOIN groups AS parent ON parent.id = h.parent_id
), held AS (
    SELECT m.id, m.org_id, e.is_new, e.entitlement, max(COALESCE(g.expires_at, 'infinity')) AS until
    FROM member AS m
    JOIN grants AS g ON g.org_id = m.org_id AND (g.expires_at IS NULL OR g.expires_at > now())
    JOIN every_permission AS e ON e.entitlement = g.entitlement
    WHERE g.subject_kind = 'org' OR g.membership_id = m.id OR g.profile_id = m.profile_id
       OR g.role_id IN (SELECT mr.role_id FROM membership_roles AS mr WHERE mr.membership_id = m.id)
       OR g.group_id IN (SELECT h.id FROM held_groups AS h WHERE h.membership_id = m.id)
    GROUP BY 1, 2, 3, 4
), had AS (
    SELECT id, org_id, NULLIF(min(until) FILTER (WHERE NOT is_new), 'infinity') AS expires_at
    FROM held
    GROUP BY id, org_id
    HAVING count(*) FILTER (WHERE NOT is_new) = (SELECT count(*) FROM every_permission WHERE NOT is_new)
       AND count(*) FILTER (WHERE is_new) = 0
)
INSERT INTO grants (org_id, subject_kind, membership_id, expires_at, entitlement)
SELECT had.org_id, 'membership', had.id, had.expires_at, e.entitlement FROM had CROSS JOIN every_permission AS e WHERE e.is_new;

WITH given AS (
    SELECT g.id, g.org_id, jsonb_build_object('id', g.id, 'org', g.org_id, 'subject_kind', g.subject_kind, 'subject_id', g.subject_id,
                                              'entitlement', g.entitlement, 'expires_at', g.expires_at) AS facts
    FROM grants AS g
    JOIN orgs AS o ON o.id = g.org_id AND o.is_system
    WHERE g.entitlement LIKE 'catalyst:webhooks:%' AND g.created_at = now()
), audited AS (
    INSERT INTO audit_pending (org_id, type, actor_kind, actor_id, resource_id, after)
    SELECT org_id, 'grant.created', 'operator', 'migrate', id, facts FROM given
)
INSERT INTO outbox_events (org_id, type, data)
SELECT org_id, 'grant.created', jsonb_build_object('id', id, 'org', org_id, 'before', NULL, 'after', facts) FROM given;

-- A key of the system org that may have every permission there was may have these too: the last administrator's is one of them.
WITH widened AS (
    UPDATE api_keys AS k
    SET permissions = ARRAY(SELECT DISTINCT unnest(k.permissions::text[] || new.permissions) ORDER BY 1),
        entitlements = CASE WHEN k.entitlements IS NOT NULL THEN ARRAY(SELECT DISTINCT unnest(k.entitlements::text[] || new.permissions)) END
    FROM orgs AS o,
         (SELECT array_agg(entitlement) FILTER (WHERE is_new) AS permissions, array_agg(entitlement) FILTER (WHERE NOT is_new) AS earlier
          FROM every_permission) AS new
    WHERE o.is_system AND o.id = k.org_id AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
      AND k.permissions::text[] @> new.earlier AND NOT k.permissions::text[] @> new.permissions
    RETURNING k.id, k.org_id, new.permissions AS added, k.permissions::text[] AS permissions, k.entitlements::text[] AS entitlements
), told AS (
    SELECT id, org_id,
           jsonb_strip_nulls(jsonb_build_object(
               'permissions', (SELECT jsonb_agg(p) FROM unnest(permissions) AS p WHERE p <> ALL (added)),
               'entitlements', (SELECT jsonb_agg(e) FROM unnest(entitlements) AS e WHERE e <> ALL (added)))) AS before,
           jsonb_strip_nulls(jsonb_build_object('permissions', permissions, 'entitlements', entitlements)) AS after
    FROM widened
), audited AS (
    INSERT INTO audit_pending (org_id, type, actor_kind, actor_id, resource_id, before, after)
    SELECT org_id, 'api_key.updated', 'operator', 'migrate', id, before, after FROM told
)
INSERT INTO outbox_events (org_id, type, data)
SELECT org_id, 'api_key.updated', jsonb_build_object('id', id, 'org', org_id, 'before', before, 'after', after) FROM told;

DROP TABLE every_permission;
