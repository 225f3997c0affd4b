-- name: claim
-- Waits for a transaction that claims the same key. A key that is older than a day is anybody's again.
INSERT INTO catalyst.idempotency_keys AS known (id, org_id, fingerprint)
VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE
SET fingerprint = excluded.fingerprint, xid = excluded.xid, answer = '', created_at = excluded.created_at
WHERE known.created_at < now() - interval '24 hours'
RETURNING true;

-- name: stored
SELECT fingerprint, answer, catalyst.revision_of(xid) AS revision FROM catalyst.idempotency_keys WHERE id = $1;

-- name: keep
UPDATE catalyst.idempotency_keys SET answer = $2 WHERE id = $1;

-- name: sealed_by
SELECT substring(answer FOR 12) AS head, count(*) AS values
FROM catalyst.idempotency_keys
WHERE answer <> ''
GROUP BY 1;

-- name: sealed
SELECT encode(id, 'hex') AS key, answer AS sealed
FROM catalyst.idempotency_keys
WHERE answer <> '' AND ($1::text IS NULL OR id > decode($1, 'hex'))
ORDER BY id
LIMIT $2
FOR UPDATE;

-- name: reseal
UPDATE catalyst.idempotency_keys i
SET answer = new.sealed
FROM unnest($1::text[], $2::bytea[]) AS new (key, sealed)
WHERE i.id = decode(new.key, 'hex');
