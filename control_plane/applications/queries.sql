-- name: insert
INSERT INTO catalyst.applications (slug, name, entitlement_prefixes, assertions, second_approver)
VALUES ($1, $2, $3, $4, $5)
RETURNING id;

-- name: find
SELECT a.id, a.slug, a.name, a.entitlement_prefixes, a.assertions, a.second_approver, a.created_at, a.updated_at,
       ARRAY(SELECT host FROM catalyst.application_hosts h WHERE h.application_id = a.id ORDER BY host) AS hosts,
       p.version AS policy_version
FROM catalyst.applications a
LEFT JOIN catalyst.published_policies p ON p.application_id = a.id
WHERE a.id = $1 OR a.slug = $2;

-- name: lock
SELECT id FROM catalyst.applications WHERE id = $1 OR slug = $2 FOR UPDATE;

-- name: list
SELECT a.id, a.slug, a.name, a.entitlement_prefixes, a.assertions, a.second_approver, a.created_at, a.updated_at,
       ARRAY(SELECT host FROM catalyst.application_hosts h WHERE h.application_id = a.id ORDER BY host) AS hosts,
       p.version AS policy_version
FROM catalyst.applications a
LEFT JOIN catalyst.published_policies p ON p.application_id = a.id
WHERE ($1::text IS NULL OR EXISTS (SELECT FROM catalyst.application_hosts h WHERE h.application_id = a.id AND h.host = $1))
  AND ($2::text IS NULL OR a.slug > $2)
ORDER BY a.slug
LIMIT $3;

-- name: serves
SELECT EXISTS (SELECT FROM catalyst.application_hosts WHERE host = ANY ($1::text[]));

-- name: update
-- Where the rule is turned on, the version in force is agreed on.
UPDATE catalyst.applications
SET name = $2, entitlement_prefixes = $3, assertions = $4, second_approver = $5, updated_at = now(),
    agreed_version = CASE WHEN second_approver THEN agreed_version
                          ELSE (SELECT version FROM catalyst.published_policies WHERE application_id = $1) END
WHERE id = $1;

-- name: wider
-- Other applications that ask for a second person and serve one of these hosts by a wildcard.
SELECT id
FROM catalyst.applications a
WHERE second_approver AND id IS DISTINCT FROM $1::uuid
  AND EXISTS (SELECT FROM catalyst.application_hosts h JOIN unnest($2::text[]) AS wanted (host)
              ON h.host = '*.' || substring(wanted.host FROM position('.' IN wanted.host) + 1)
              WHERE h.application_id = a.id AND wanted.host NOT LIKE '*.%')
ORDER BY id
FOR UPDATE;

-- name: drop_hosts
DELETE FROM catalyst.application_hosts WHERE application_id = $1 AND host <> ALL ($2::text[]);

-- name: add_hosts
-- A host that is this application's already stays; one that is another's is a conflict.
INSERT INTO catalyst.application_hosts (host, application_id)
SELECT DISTINCT wanted.host, $1::uuid
FROM unnest($2::text[]) AS wanted (host)
WHERE NOT EXISTS (SELECT FROM catalyst.application_hosts h WHERE h.host = wanted.host AND h.application_id = $1);

-- name: delete
DELETE FROM catalyst.applications WHERE id = $1;
