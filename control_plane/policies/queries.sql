-- name: application
SELECT a.id, a.slug, ARRAY(SELECT host FROM catalyst.application_hosts h WHERE h.application_id = a.id ORDER BY host) AS hosts
FROM catalyst.applications a
WHERE a.id = $1 OR a.slug = $2;

-- name: lock_application
-- Drafts, publications and changes of hosts of one application happen one after the other.
SELECT id FROM catalyst.applications WHERE id = $1 OR slug = $2 FOR UPDATE;

-- name: draft
SELECT application_id AS application, source, media_type, etag, updated_at
FROM catalyst.policy_drafts
WHERE application_id = $1;

-- name: save_draft
INSERT INTO catalyst.policy_drafts (application_id, source, media_type, document, etag)
VALUES ($1, $2, $3, $4::text::jsonb, $5)
ON CONFLICT (application_id) DO UPDATE
SET source = EXCLUDED.source, media_type = EXCLUDED.media_type, document = EXCLUDED.document, etag = EXCLUDED.etag,
    updated_at = now()
RETURNING application_id AS application, application_id AS id, etag, media_type, updated_at;

-- name: insert_version
INSERT INTO catalyst.policy_versions (application_id, version, source, media_type, document, note)
VALUES ($1, (SELECT COALESCE(max(version), 0) + 1 FROM catalyst.policy_versions WHERE application_id = $1),
        $2, $3, $4::text::jsonb, $5)
RETURNING version;

-- name: version
SELECT version, source, media_type, document::text AS document
FROM catalyst.policy_versions
WHERE application_id = $1 AND version = $2;

-- name: versions
SELECT v.application_id AS application, v.version, v.note, v.created_at, p.version IS NOT NULL AS published
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
