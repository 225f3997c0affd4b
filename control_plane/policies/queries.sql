-- name: application
SELECT a.id, a.slug, a.second_approver, a.agreed_version,
       ARRAY(SELECT host FROM catalyst.application_hosts h WHERE h.application_id = a.id ORDER BY host) AS hosts
FROM catalyst.applications a
WHERE a.id = $1 OR a.slug = $2;

-- name: lock_application
-- Drafts, publications and changes of hosts of one application happen one after the other.
SELECT id FROM catalyst.applications WHERE id = $1 OR slug = $2 FOR UPDATE;

-- name: draft
SELECT application_id AS application, source, media_type, etag, authors, updated_at
FROM catalyst.policy_drafts
WHERE application_id = $1;

-- name: save_draft
-- Who writes the same text again is one of its authors too.
INSERT INTO catalyst.policy_drafts AS stored (application_id, source, media_type, document, etag, authors)
VALUES ($1, $2, $3, $4::text::jsonb, $5, $6::uuid[])
ON CONFLICT (application_id) DO UPDATE
SET source = EXCLUDED.source, media_type = EXCLUDED.media_type, document = EXCLUDED.document, etag = EXCLUDED.etag,
    authors = CASE WHEN stored.etag = EXCLUDED.etag
                   THEN ARRAY(SELECT DISTINCT unnest(stored.authors || EXCLUDED.authors)) ELSE EXCLUDED.authors END,
    updated_at = now()
RETURNING application_id AS application, application_id AS id, etag, media_type, updated_at;

-- name: insert_version
INSERT INTO catalyst.policy_versions (application_id, version, source, media_type, document, note, approved_by)
VALUES ($1, (SELECT COALESCE(max(version), 0) + 1 FROM catalyst.policy_versions WHERE application_id = $1),
        $2, $3, $4::text::jsonb, $5, $6)
RETURNING version;

-- name: version
SELECT version, source, media_type, document::text AS document, approved_by
FROM catalyst.policy_versions
WHERE application_id = $1 AND version = $2;

-- name: versions
SELECT v.application_id AS application, v.version, v.note, v.approved_by, v.created_at, p.version IS NOT NULL AS published
FROM catalyst.policy_versions v
LEFT JOIN catalyst.published_policies p ON p.application_id = v.application_id AND p.version = v.version
WHERE v.application_id = $1 AND ($2::int IS NULL OR v.version < $2)
ORDER BY v.version DESC
LIMIT $3;

-- name: published
SELECT version, document::text AS document FROM catalyst.published_policies WHERE application_id = $1;

-- name: publish
INSERT INTO catalyst.published_policies (application_id, version, document)
SELECT application_id, version, document
FROM catalyst.policy_versions
WHERE application_id = $1 AND version = $2
ON CONFLICT (application_id) DO UPDATE
SET version = EXCLUDED.version, document = EXCLUDED.document, published_at = now();

-- name: delete_draft
DELETE FROM catalyst.policy_drafts WHERE application_id = $1;

-- name: approve
INSERT INTO catalyst.policy_approvals (application_id, etag, profile_id)
VALUES ($1, $2, $3)
ON CONFLICT (application_id, etag, profile_id) DO UPDATE SET approved_at = now()
RETURNING application_id AS application, profile_id AS profile, approved_at;

-- name: withdraw_approvals
-- Of every draft but this one.
DELETE FROM catalyst.policy_approvals WHERE application_id = $1 AND etag NOT IN ('', $2);

-- name: approver
SELECT a.profile_id
FROM catalyst.policy_approvals a
JOIN catalyst.profiles p ON p.id = a.profile_id AND p.status = 'active'
WHERE a.application_id = $1 AND a.etag = $2 AND a.profile_id <> ALL ($3::uuid[]) AND a.profile_id IS DISTINCT FROM $4::uuid
ORDER BY a.approved_at
LIMIT 1;

-- name: waiver
SELECT a.profile_id
FROM catalyst.policy_approvals a
JOIN catalyst.profiles p ON p.id = a.profile_id AND p.status = 'active'
WHERE a.application_id = $1 AND a.etag = '' AND a.profile_id IS DISTINCT FROM $2::uuid AND a.approved_at > now() - interval '1 hour'
ORDER BY a.approved_at
LIMIT 1;

-- name: use_waiver
DELETE FROM catalyst.policy_approvals WHERE application_id = $1 AND etag = '';

-- name: head
SELECT revision FROM replica.head;

-- name: sample
SELECT d.at, d.revision, d.kind, d.profile_id, d.org_id, d.scopes, d.amr, d.acr, d.auth_time, d.method, d.scheme, d.host, d.path,
       host(d.client) AS client, d.effect, d.reason, d.rule, k.entitlements AS key_entitlements,
       k.revoked_at IS NOT NULL OR COALESCE(k.expires_at <= now(), false) AS key_ended
FROM catalyst.decisions d
LEFT JOIN catalyst.api_keys k ON k.id = d.api_key_id
WHERE d.application_id = $1 AND ($2::timestamptz IS NULL OR d.at >= $2)
ORDER BY d.id DESC
LIMIT $3;

-- name: lost
SELECT COALESCE(sum(lost), 0)::bigint FROM catalyst.decision_counts WHERE application_id = $1;

-- name: shadow
SELECT s.application_id AS application, s.etag, s.started_at, d.etag IS NOT NULL AS is_draft, COALESCE(c.seen, 0) AS seen,
       COALESCE(c.differing, 0) AS differing, COALESCE(c.failed, 0) AS failed, COALESCE(c.lost, 0) AS lost
FROM catalyst.shadow_policies s
LEFT JOIN catalyst.policy_drafts d ON d.application_id = s.application_id AND d.etag = s.etag
LEFT JOIN catalyst.decision_counts c ON c.application_id = s.application_id AND c.shadow_etag = s.etag
WHERE s.application_id = $1;

-- name: start_shadow
INSERT INTO catalyst.shadow_policies (application_id, etag, document)
SELECT application_id, etag, document FROM catalyst.policy_drafts WHERE application_id = $1
ON CONFLICT (application_id) DO UPDATE SET etag = EXCLUDED.etag, document = EXCLUDED.document, started_at = now();

-- name: stop_shadow
DELETE FROM catalyst.shadow_policies WHERE application_id = $1;

-- name: shadow_differences
SELECT id, at, revision, kind, profile_id, org_id, method, scheme, host, path, host(client) AS client, effect, reason, rule,
       shadow_effect, shadow_reason, shadow_rule
FROM catalyst.decisions
WHERE application_id = $1 AND shadow_etag = $2 AND shadow_differs
  AND ($3::bigint IS NULL OR id < $3)
ORDER BY id DESC
LIMIT $4;
