-- name: give
INSERT INTO catalyst.handoffs (code_sha256, session_id, host, challenge, expires_at)
VALUES ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5));

-- name: redeem
-- Whoever deletes it has it: of two who show a code at once, one.
DELETE FROM catalyst.handoffs
WHERE code_sha256 = $1
RETURNING session_id, host, challenge, expires_at > clock_timestamp() AS in_time;

-- name: forget
-- A bounded number each round.
DELETE FROM catalyst.handoffs
WHERE code_sha256 IN (SELECT code_sha256 FROM catalyst.handoffs WHERE expires_at < now()
                      ORDER BY expires_at LIMIT 10000);
