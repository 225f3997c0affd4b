-- name: one_at_a_time
-- Two control planes that start, or rotate, at once.
SELECT pg_advisory_xact_lock(hashtext('catalyst.signing_keys'));

-- name: list
SELECT kid, algorithm, status, created_at, not_after
FROM catalyst.signing_keys
WHERE $1::text IS NULL OR kid > $1
ORDER BY kid
LIMIT $2;

-- name: insert
INSERT INTO catalyst.signing_keys (kid, algorithm, status, public_jwk, private_wrapped)
VALUES ($1, 'EdDSA', $2, $3::text::jsonb, $4)
RETURNING kid, kid AS id, algorithm, status, created_at, not_after;

-- name: by_status
SELECT kid, kid AS id, algorithm, status, created_at, not_after, private_wrapped
FROM catalyst.signing_keys
WHERE status = $1;

-- name: verifier
SELECT algorithm, public_jwk::text AS public_jwk
FROM catalyst.signing_keys
WHERE kid = $1 AND status <> 'retired' AND (not_after IS NULL OR not_after > now());

-- name: set_status
UPDATE catalyst.signing_keys SET status = $2 WHERE kid = $1;

-- name: retire_slowly
-- The private half goes at once: nothing will be signed with it again.
UPDATE catalyst.signing_keys
SET status = 'retiring', not_after = now() + make_interval(secs => $2), private_wrapped = ''
WHERE kid = $1;

-- name: retire_ended
UPDATE catalyst.signing_keys
SET status = 'retired'
WHERE status = 'retiring' AND not_after < now()
RETURNING kid AS id, status;

-- name: public
SELECT public_jwk::text AS jwk
FROM catalyst.signing_keys
WHERE status <> 'retired' AND (not_after IS NULL OR not_after > now())
ORDER BY kid;
