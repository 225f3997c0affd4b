-- What a batch names is looked up for all its rows at once. `n` is always the row's place in the batch.

-- name: plan_as
-- A plan that is kept from when a table was empty reads all of it for each row of a batch, and a first import fills empty tables.
SELECT set_config('plan_cache_mode', $1, true);

-- name: by_email
-- Addresses as the database compares them, and whose each is.
SELECT w.n, lower(w.email) AS address, p.id
FROM unnest($1::int[], $2::text[]) AS w(n, email)
LEFT JOIN catalyst.profiles p ON lower(p.email) = lower(w.email)
     AND ($3::uuid IS NULL OR EXISTS (SELECT FROM catalyst.memberships m WHERE m.profile_id = p.id AND m.org_id = $3));

-- name: by_identity
SELECT w.n, i.profile_id AS id
FROM unnest($1::int[], $2::text[], $3::text[]) AS w(n, issuer, subject)
JOIN catalyst.identities i ON i.issuer = w.issuer AND i.subject = w.subject;

-- name: profiles
SELECT p.id, p.kind, lower(p.email) AS address, p.display_name, p.labels::text AS labels,
       COALESCE((SELECT jsonb_agg(jsonb_build_array(i.issuer, i.subject)) FROM catalyst.identities i WHERE i.profile_id = p.id),
                '[]')::text AS identities
FROM catalyst.profiles p
WHERE p.id = ANY ($1::uuid[]);

-- name: insert_profiles
INSERT INTO catalyst.profiles (id, kind, email, display_name, labels)
SELECT id, kind, email, display_name, labels
FROM jsonb_to_recordset($1::text::jsonb) AS r(id uuid, kind text, email text, display_name text, labels jsonb);

-- name: insert_identities
INSERT INTO catalyst.identities (issuer, subject, profile_id)
SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[]);

-- name: profiles_by_id
SELECT p.id
FROM catalyst.profiles p
WHERE p.id = ANY ($1::uuid[])
  AND ($2::uuid IS NULL OR EXISTS (SELECT FROM catalyst.memberships m WHERE m.profile_id = p.id AND m.org_id = $2));

-- name: joinable
-- Who may be made a member of which org; for an org's administrators, none that belongs to another.
SELECT w.n
FROM unnest($1::int[], $2::uuid[], $3::uuid[]) AS w(n, profile_id, org_id)
WHERE catalyst.joinable(w.profile_id, w.org_id);

-- name: orgs
SELECT w.reference, o.id
FROM unnest($1::text[], $2::uuid[]) AS w(reference, id)
JOIN catalyst.orgs o ON o.id = w.id OR (w.id IS NULL AND o.slug = w.reference)
WHERE $3::uuid IS NULL OR o.id = $3;

-- name: roles
SELECT w.org_id, w.reference, r.id, r.slug::text AS slug
FROM unnest($1::uuid[], $2::text[], $3::uuid[]) AS w(org_id, reference, id)
JOIN catalyst.roles r ON r.org_id = w.org_id AND (r.id = w.id OR (w.id IS NULL AND r.slug = w.reference));

-- name: groups
SELECT w.org_id, w.reference, g.id, g.slug::text AS slug
FROM unnest($1::uuid[], $2::text[], $3::uuid[]) AS w(org_id, reference, id)
JOIN catalyst.groups g ON g.org_id = w.org_id AND (g.id = w.id OR (w.id IS NULL AND g.slug = w.reference));

-- name: memberships
SELECT w.n, m.id,
       ARRAY(SELECT r.slug::text FROM catalyst.membership_roles mr JOIN catalyst.roles r ON r.id = mr.role_id
             WHERE mr.membership_id = m.id ORDER BY 1) AS roles,
       ARRAY(SELECT g.slug::text FROM catalyst.membership_groups mg JOIN catalyst.groups g ON g.id = mg.group_id
             WHERE mg.membership_id = m.id ORDER BY 1) AS groups
FROM unnest($1::int[], $2::uuid[], $3::uuid[]) AS w(n, org_id, profile_id)
JOIN catalyst.memberships m ON m.org_id = w.org_id AND m.profile_id = w.profile_id;

-- name: insert_memberships
INSERT INTO catalyst.memberships (id, org_id, profile_id)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]);

-- name: add_roles
INSERT INTO catalyst.membership_roles (membership_id, role_id, org_id)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]);

-- name: add_groups
INSERT INTO catalyst.membership_groups (membership_id, group_id, org_id)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]);

-- name: memberships_by_id
SELECT w.n, m.id
FROM unnest($1::int[], $2::uuid[], $3::uuid[]) AS w(n, org_id, id)
JOIN catalyst.memberships m ON m.org_id = w.org_id AND m.id = w.id;

-- name: grants
SELECT w.n, g.id, g.expires_at, g.reason
FROM unnest($1::int[], $2::uuid[], $3::text[], $4::uuid[], $5::text[]) AS w(n, org_id, kind, subject_id, entitlement)
JOIN catalyst.grants g ON g.org_id = w.org_id AND g.subject_kind = w.kind AND g.subject_id = w.subject_id
     AND g.entitlement = w.entitlement;

-- name: insert_grants
INSERT INTO catalyst.grants (id, org_id, subject_kind, group_id, role_id, membership_id, profile_id, entitlement, expires_at, reason)
SELECT w.id, w.org_id, w.kind,
       CASE WHEN w.kind = 'group' THEN w.subject_id END,
       CASE WHEN w.kind = 'role' THEN w.subject_id END,
       CASE WHEN w.kind = 'membership' THEN w.subject_id END,
       CASE WHEN w.kind = 'profile' THEN w.subject_id END,
       w.entitlement, w.expires_at, w.reason
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::timestamptz[], $7::text[])
     AS w(id, org_id, kind, subject_id, entitlement, expires_at, reason);
