-- name: list
SELECT id, at, type, org_id AS org, actor_kind, actor_id, resource_id AS resource, before::text AS before, after::text AS after,
       revision, request_id, host(address) AS address
FROM catalyst.audit_events
WHERE ($1::uuid IS NULL OR org_id = $1)
  AND ($2::uuid IS NULL OR org_id = $2)
  AND ($3::text IS NULL OR type = $3)
  AND ($4::text IS NULL OR actor_id = $4)
  AND ($5::text IS NULL OR resource_id = $5)
  AND ($6::timestamptz IS NULL OR at >= $6)
  AND ($7::timestamptz IS NULL OR at < $7)
  AND ($8::bigint IS NULL OR id < $8)
ORDER BY id DESC
LIMIT $9;
