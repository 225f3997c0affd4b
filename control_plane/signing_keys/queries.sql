-- name: one_at_a_time
-- Two control planes that start, or rotate, at once.
SELECT pg_advisory_xact_lock(hashtext('catalyst.signing_keys'));

-- name: list
SELECT kid, algorithm, status, created_at, activated_at, not_after
FROM catalyst.signing_keys
WHERE $1::text IS NULL OR kid > $1
ORDER BY kid
LIMIT $2;

-- name: insert
INSERT INTO catalyst.signing_keys (kid, algorithm, status, public_jwk, private_wrapped)
VALUES ($1, $2, $3, $4::text::jsonb, $5)
RETURNING kid, kid AS id, algorithm, status, created_at, activated_at, not_after;

-- name: by_status
SELECT kid, kid AS id, algorithm, status, created_at, activated_at, not_after, private_wrapped
FROM catalyst.signing_keys
WHERE status = $1;

-- name: verifier
SELECT algorithm, public_jwk::text AS public_jwk
FROM catalyst.signing_keys
WHERE kid = $1 AND status <> 'retired' AND (not_after IS NULL OR not_after > now());

-- name: activate
UPDATE catalyst.signing_keys
SET status = 'active'
WHERE kid = $1
RETURNING kid, kid AS id, algorithm, status, created_at, activated_at, not_after;

-- name: retire
-- In $2 seconds. The private half goes at once: nothing will be signed with it again.
UPDATE catalyst.signing_keys
SET status = 'retiring', not_after = now() + make_interval(secs => $2), private_wrapped = ''
WHERE kid = $1;

-- name: retire_at_once
-- Those too that were retiring already.
UPDATE catalyst.signing_keys
SET status = 'retired', not_after = now(), private_wrapped = ''
WHERE kid = $1 OR status = 'retiring';

-- name: retire_ended
UPDATE catalyst.signing_keys
SET status = 'retired'
WHERE status = 'retiring' AND not_after < now()
RETURNING kid AS id, status;

-- name: note_known
-- Whoever sees a key sees a head that is at or beyond its revision.
UPDATE catalyst.signing_keys
SET known_at_revision = (SELECT revision FROM replica.head)
WHERE status = 'next' AND known_at_revision IS NULL;

-- name: due
-- Whether the active key has signed for $1 days, and the next one is known wherever tokens are verified: its revision was reached by
-- the slowest sidecar ($3), and it has been in the JWKS for $2 seconds.
SELECT EXISTS (
    SELECT
    FROM catalyst.signing_keys a, catalyst.signing_keys n
    WHERE a.status = 'active' AND n.status = 'next'
      AND a.activated_at <= now() - make_interval(days => $1)
      AND n.created_at <= now() - make_interval(secs => $2)
      AND n.known_at_revision <= $3
);

-- name: public
SELECT public_jwk::text AS jwk
FROM catalyst.signing_keys
WHERE status <> 'retired' AND (not_after IS NULL OR not_after > now())
ORDER BY kid;

-- name: sealed_by
SELECT substring(private_wrapped FOR 12) AS head, count(*) AS values
FROM catalyst.signing_keys
WHERE private_wrapped <> ''
GROUP BY 1;

-- name: sealed
SELECT kid AS key, private_wrapped AS sealed
FROM catalyst.signing_keys
WHERE private_wrapped <> '' AND ($1::text IS NULL OR kid > $1)
ORDER BY kid
LIMIT $2
FOR UPDATE;

-- name: reseal
UPDATE catalyst.signing_keys k
SET private_wrapped = new.sealed
FROM unnest($1::text[], $2::bytea[]) AS new (key, sealed)
WHERE k.kid = new.key;
