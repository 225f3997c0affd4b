-- name: trim
SELECT catalyst.trim($1, $2);

-- name: trim_decisions
SELECT catalyst.trim_decisions($1, $2);

-- name: forget_outbox
SELECT catalyst.forget_outbox($1, $2);

-- name: forget_answers
-- A bounded number each round: who is asking for one of them now keeps it until the next.
DELETE FROM catalyst.idempotency_keys
WHERE id IN (SELECT id FROM catalyst.idempotency_keys WHERE created_at < now() - interval '24 hours'
             ORDER BY created_at LIMIT 10000 FOR UPDATE SKIP LOCKED);
