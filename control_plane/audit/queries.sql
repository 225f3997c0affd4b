-- name: list
SELECT id, at, type, org_id AS org, actor_kind, actor_id, actor_profile, resource_id AS resource, before::text AS before,
       after::text AS after, revision, request_id, host(address) AS address, seq, encode(previous, 'hex') AS previous,
       encode(hash, 'hex') AS hash
FROM catalyst.audit_events
WHERE ($1::uuid IS NULL OR org_id = $1)
  AND ($2::uuid IS NULL OR org_id = $2)
  AND ($3::text IS NULL OR type = $3)
  AND ($4::text IS NULL OR starts_with(type, $4))
  AND ($5::text IS NULL OR actor_id = $5 OR actor_kind = 'api_key' AND actor_profile = $6::uuid)
  AND ($7::text IS NULL OR resource_id = $7)
  AND ($8::timestamptz IS NULL OR at >= $8)
  AND ($9::timestamptz IS NULL OR at < $9)
  AND ($10::text IS NULL OR request_id = $10)
  AND ($11::bigint IS NULL OR id < $11)
ORDER BY id DESC
LIMIT $12;

-- name: plan_for_these_filters
-- A plan for any filters would read the whole log where an index leads to a few events.
SELECT set_config('plan_cache_mode', 'force_custom_plan', true);

-- name: take_time
-- A stream goes on for as long as its reader reads. By the index from its first line on, rather than sorting everything first.
SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('enable_sort', 'off', true),
       set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '60s', true);

-- name: export
SELECT catalyst.audit_line(e) AS line
FROM catalyst.audit_events AS e
WHERE ($1::uuid IS NULL OR org_id = $1)
  AND ($2::uuid IS NULL OR org_id = $2)
  AND ($3::text IS NULL OR type = $3)
  AND ($4::text IS NULL OR starts_with(type, $4))
  AND ($5::text IS NULL OR actor_id = $5 OR actor_kind = 'api_key' AND actor_profile = $6::uuid)
  AND ($7::text IS NULL OR resource_id = $7)
  AND ($8::timestamptz IS NULL OR at >= $8)
  AND ($9::timestamptz IS NULL OR at < $9)
  AND ($10::text IS NULL OR request_id = $10)
ORDER BY org_id NULLS FIRST, id;

-- name: anchors
-- From where each chain goes on, of which retention has dropped the beginning.
SELECT p.jws
FROM catalyst.audit_chains AS c
JOIN catalyst.audit_checkpoints AS p ON p.chain = c.chain AND p.seq = c.dropped_seq AND p.hash = c.dropped_hash
WHERE c.dropped_seq > 0 AND p.dropped AND ($1::uuid IS NULL OR c.org_id = $1) AND ($2::uuid IS NULL OR c.org_id = $2)
ORDER BY c.chain;

-- name: ends
SELECT org_id::text AS org, seq, encode(hash, 'hex') AS hash, dropped_seq
FROM catalyst.audit_chains
WHERE $1::uuid IS NULL OR org_id = $1;

-- name: checkpoints_kept
SELECT p.jws
FROM catalyst.audit_checkpoints AS p
JOIN catalyst.audit_chains AS c ON c.chain = p.chain
WHERE p.seq >= c.dropped_seq AND ($1::uuid IS NULL OR p.org_id = $1)
ORDER BY p.id;

-- name: list_checkpoints
SELECT id, org_id AS org, seq, encode(hash, 'hex') AS hash, dropped, created_at, jws
FROM catalyst.audit_checkpoints AS p
WHERE ($1::uuid IS NULL OR org_id = $1)
  AND ($2::uuid IS NULL OR org_id = $2)
  AND (NOT $3::boolean OR NOT EXISTS (SELECT FROM catalyst.audit_checkpoints AS later
                                      WHERE later.chain = p.chain AND later.seq > p.seq))
  AND ($4::bigint IS NULL OR id < $4)
ORDER BY id DESC
LIMIT $5;

-- name: one_at_a_time
SELECT pg_advisory_xact_lock(hashtext('catalyst.audit_checkpoints'));

-- name: chains_that_moved
-- Chains that have gone on since their last checkpoint, which is this old at least.
SELECT c.org_id::text AS org, c.seq, encode(c.hash, 'hex') AS hash
FROM catalyst.audit_chains AS c
LEFT JOIN LATERAL (
    SELECT p.seq, p.created_at FROM catalyst.audit_checkpoints AS p
    WHERE p.chain = c.chain ORDER BY p.seq DESC LIMIT 1) AS last ON true
WHERE ($1::uuid IS NULL OR c.org_id = $1) AND c.seq > COALESCE(last.seq, 0)
  AND (last.created_at IS NULL OR last.created_at <= now() - make_interval(secs => $2))
ORDER BY c.chain;

-- name: insert_checkpoints
INSERT INTO catalyst.audit_checkpoints (org_id, seq, hash, dropped, jws)
SELECT org::uuid, seq, decode(hash, 'hex'), $5, jws
FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[]) AS c (org, seq, hash, jws);

-- name: newest_key
SELECT kid, private_wrapped FROM catalyst.audit_keys ORDER BY created_at DESC, kid LIMIT 1;

-- name: insert_key
INSERT INTO catalyst.audit_keys (kid, public_jwk, private_wrapped) VALUES ($1, $2::text::jsonb, $3);

-- name: public_keys
SELECT public_jwk::text AS jwk FROM catalyst.audit_keys ORDER BY created_at, kid;

-- name: sealed_by
SELECT substring(private_wrapped FOR 12) AS head, count(*) AS values FROM catalyst.audit_keys GROUP BY 1;

-- name: sealed
SELECT kid AS key, private_wrapped AS sealed
FROM catalyst.audit_keys
WHERE $1::text IS NULL OR kid > $1
ORDER BY kid
LIMIT $2
FOR UPDATE;

-- name: reseal
UPDATE catalyst.audit_keys k
SET private_wrapped = new.sealed
FROM unnest($1::text[], $2::bytea[]) AS new (key, sealed)
WHERE k.kid = new.key;

-- name: make_partitions
SELECT catalyst.make_audit_partitions();

-- name: droppable
-- The ends of whole months that are older than so many days, newest first.
SELECT until FROM catalyst.audit_partitions WHERE until <= now() - make_interval(days => $1) ORDER BY until DESC;

-- name: ends_by
SELECT org_id::text AS org, seq, encode(hash, 'hex') AS hash, whole FROM catalyst.audit_ends($1);

-- name: drop
SELECT catalyst.drop_audit_events($1);

-- name: deny
INSERT INTO catalyst.audit_pending (org_id, type, resource_id, after, actor_kind, actor_id, actor_profile, request_id, address)
VALUES ($1, $2, $3, $4::text::jsonb, $5, $6, $7, $8, $9::text::inet);
