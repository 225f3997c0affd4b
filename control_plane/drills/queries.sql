-- name: applications
SELECT a.id, a.slug, p.document::text AS document, a.entitlement_prefixes,
       ARRAY(SELECT h.host FROM catalyst.application_hosts h WHERE h.application_id = a.id ORDER BY h.host) AS hosts
FROM catalyst.applications a JOIN catalyst.published_policies p ON p.application_id = a.id
ORDER BY a.slug;

-- name: versions
SELECT a.slug, v.version, v.document::text AS document
FROM catalyst.policy_versions v JOIN catalyst.applications a ON a.id = v.application_id
ORDER BY a.slug, v.version;

-- name: some_members
SELECT m.profile_id, o.id AS org_id, o.slug AS org_slug, p.email, m.id AS membership_id
FROM catalyst.memberships m
JOIN catalyst.orgs o ON o.id = m.org_id AND o.status = 'active'
JOIN catalyst.profiles p ON p.id = m.profile_id AND p.status = 'active'
ORDER BY random()
LIMIT $1;

-- name: holders
-- Members to whom one of these entitlements was granted without a way through other groups: enough to find somebody.
SELECT DISTINCT m.profile_id, o.id AS org_id, o.slug AS org_slug, p.email, m.id AS membership_id
FROM catalyst.grants g
JOIN catalyst.memberships m ON m.org_id = g.org_id
JOIN catalyst.orgs o ON o.id = m.org_id AND o.status = 'active'
JOIN catalyst.profiles p ON p.id = m.profile_id AND p.status = 'active'
WHERE g.entitlement = ANY ($1::text[])
  AND (g.expires_at IS NULL OR g.expires_at > now() + interval '1 minute')
  AND (g.subject_kind = 'org' OR g.membership_id = m.id OR g.profile_id = m.profile_id
       OR EXISTS (SELECT FROM catalyst.membership_roles r WHERE r.membership_id = m.id AND r.role_id = g.role_id)
       OR EXISTS (SELECT FROM catalyst.membership_groups r WHERE r.membership_id = m.id AND r.group_id = g.group_id))
LIMIT $2;

-- name: pending
SELECT count(*) AS events, min(created_at) AS oldest,
       (SELECT count(*) FROM catalyst.webhook_deliveries AS d
        WHERE d.status = 'pending' AND EXISTS (SELECT FROM catalyst.webhooks AS w WHERE w.id = d.webhook_id)) AS deliveries
FROM catalyst.outbox_events;

-- name: head
SELECT revision FROM catalyst.head;

-- name: chain_ends
SELECT COALESCE(org_id::text, 'platform') AS chain, seq || ' ' || encode(hash, 'hex') AS head FROM catalyst.audit_chains;
