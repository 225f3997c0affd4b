-- name: insert
INSERT INTO catalyst.grants (org_id, subject_kind, group_id, role_id, membership_id, profile_id, entitlement, expires_at, reason)
VALUES ($1, $2,
        CASE WHEN $2 = 'group' THEN $3::uuid END,
        CASE WHEN $2 = 'role' THEN $3::uuid END,
        CASE WHEN $2 = 'membership' THEN $3::uuid END,
        CASE WHEN $2 = 'profile' THEN $3::uuid END,
        $4, $5, $6)
RETURNING id, org_id AS org, subject_kind, subject_id, entitlement, expires_at, reason, created_at;

-- name: find
SELECT id, org_id AS org, subject_kind, subject_id, entitlement, expires_at, reason, created_at
FROM catalyst.grants
WHERE id = $1 AND ($2::uuid IS NULL OR org_id = $2);

-- name: list
SELECT id, org_id AS org, subject_kind, subject_id, entitlement, expires_at, reason, created_at
FROM catalyst.grants
WHERE ($1::uuid IS NULL OR org_id = $1)
  AND ($2::uuid IS NULL OR org_id = $2)
  AND ($3::text IS NULL OR subject_kind = $3)
  AND ($4::uuid IS NULL OR subject_id = $4)
  AND ($5::text IS NULL OR entitlement = $5)
  AND ($6::timestamptz IS NULL OR expires_at < $6)
  AND ($7::uuid IS NULL OR id > $7)
ORDER BY id
LIMIT $8;

-- name: delete
DELETE FROM catalyst.grants
WHERE id = $1 AND ($2::uuid IS NULL OR org_id = $2)
RETURNING id, org_id AS org, subject_kind, subject_id, entitlement, expires_at, reason, created_at;

-- name: any_expired
SELECT EXISTS (SELECT FROM catalyst.grants WHERE expires_at <= now());

-- name: delete_expired
-- Whoever else does the same skips these.
DELETE FROM catalyst.grants
WHERE id = ANY (ARRAY(
    SELECT id FROM catalyst.grants WHERE expires_at <= now() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED))
RETURNING id, org_id AS org, subject_kind, subject_id, entitlement, expires_at, reason;

-- name: delete_expired_twin
DELETE FROM catalyst.grants
WHERE org_id = $1 AND subject_kind = $2 AND subject_id = $3 AND entitlement = $4 AND expires_at <= now()
RETURNING id, org_id AS org, subject_kind, subject_id, entitlement, expires_at, reason;
