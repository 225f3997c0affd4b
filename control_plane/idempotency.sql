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
