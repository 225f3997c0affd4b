-- name: insert
INSERT INTO catalyst.profiles (kind, email, display_name, labels)
VALUES ($1, $2, $3, $4::text::jsonb)
RETURNING id;

-- name: find
-- A profile exists for an org's administrators while it is a member there.
SELECT p.id, p.kind, p.email, p.display_name, p.status, p.labels::text AS labels, p.created_at, p.updated_at,
       COALESCE((SELECT jsonb_agg(jsonb_build_object('issuer', i.issuer, 'subject', i.subject) ORDER BY i.issuer, i.subject)
                 FROM catalyst.identities i WHERE i.profile_id = p.id), '[]')::text AS identities
FROM catalyst.profiles p
WHERE p.id = $1
  AND ($2::uuid IS NULL
       OR EXISTS (SELECT FROM catalyst.memberships m WHERE m.profile_id = p.id AND m.org_id = $2));

-- name: lock
SELECT id FROM catalyst.profiles WHERE id = $1 FOR UPDATE;

-- name: by_email
SELECT id FROM catalyst.profiles WHERE lower(email) = lower($1);

-- name: by_identity
SELECT p.id, p.status FROM catalyst.identities i JOIN catalyst.profiles p ON p.id = i.profile_id WHERE i.issuer = $1 AND i.subject = $2;

-- name: list
SELECT p.id, p.kind, p.email, p.display_name, p.status, p.labels::text AS labels, p.created_at, p.updated_at,
       COALESCE((SELECT jsonb_agg(jsonb_build_object('issuer', i.issuer, 'subject', i.subject) ORDER BY i.issuer, i.subject)
                 FROM catalyst.identities i WHERE i.profile_id = p.id), '[]')::text AS identities
FROM catalyst.profiles p
WHERE ($1::uuid IS NULL
       OR EXISTS (SELECT FROM catalyst.memberships m WHERE m.profile_id = p.id AND m.org_id = $1))
  AND ($2::text IS NULL OR p.kind = $2)
  AND ($3::text IS NULL OR p.status = $3)
  AND ($4::text IS NULL OR lower(p.email) = lower($4))
  AND ($5::timestamptz IS NULL OR (p.created_at, p.id) > ($5, $6::uuid))
ORDER BY p.created_at, p.id
LIMIT $7;

-- name: update
UPDATE catalyst.profiles
SET email = $2, display_name = $3, status = $4, labels = $5::text::jsonb, updated_at = now()
WHERE id = $1;

-- name: drop_identities
DELETE FROM catalyst.identities WHERE profile_id = $1;

-- name: add_identity
INSERT INTO catalyst.identities (issuer, subject, profile_id) VALUES ($1, $2, $3);

-- name: delete
DELETE FROM catalyst.profiles WHERE id = $1;

-- name: erase
SELECT * FROM catalyst.erase_profile($1);
