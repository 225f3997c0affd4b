-- Deliveries that are looked for by their position or their resource are pending where "next_attempt_at" is not NULL: said so, the index
-- of what is due cannot serve. By what it last counted the planner may think that hardly anything is pending, and then "status =
-- 'pending'" tempts it to go through all that is, for each row. Sorted by "resource" first, the primary key cannot serve either.

-- name: fan_out
SELECT catalyst.fan_out($1);

-- name: claim
-- Queues in which something is due, the longest first, but for those of orgs ($3) of which this worker serves enough already. Few at a
-- time: who is idle gets some, too. No number of a turn is given twice, also where the database crashed and has lost the last ones that
-- it gave, while whoever got them still goes on: it follows the clock.
WITH due AS MATERIALIZED (
    SELECT q.webhook_id
    FROM catalyst.webhook_queues q
    JOIN catalyst.webhooks w ON w.id = q.webhook_id
    WHERE q.due_at <= now() AND q.worker_id IS NULL AND (q.held_until IS NULL OR q.held_until <= now()) AND w.status = 'active'
      AND (w.org_id IS NULL OR w.org_id <> ALL ($3::uuid[]))
    ORDER BY q.due_at
    LIMIT $2
    FOR UPDATE OF q SKIP LOCKED
), mine AS (
    UPDATE catalyst.webhook_queues q SET worker_id = $1, turn = GREATEST(q.turn + 1, (EXTRACT(epoch FROM clock_timestamp()) * 1000000)::bigint)
    FROM due
    WHERE q.webhook_id = due.webhook_id
    RETURNING q.webhook_id, q.turn, q.failures, q.failing_since, q.held_until, q.in_flight
)
SELECT m.*, w.org_id, w.updated_at,
       ARRAY(SELECT s.id FROM catalyst.webhook_secrets s
             WHERE s.webhook_id = w.id AND (s.valid_until IS NULL OR s.valid_until > now()) ORDER BY s.id) AS secrets
FROM mine m
JOIN catalyst.webhooks w ON w.id = m.webhook_id;

-- name: next_due
-- In how many seconds a queue that nobody serves is due, but for those of these orgs ($1); NULL: none.
SELECT EXTRACT(epoch FROM min(GREATEST(q.due_at, q.held_until)) - now())::float8
FROM catalyst.webhook_queues q
JOIN catalyst.webhooks w ON w.id = q.webhook_id
WHERE q.due_at IS NOT NULL AND q.worker_id IS NULL AND w.status = 'active' AND (w.org_id IS NULL OR w.org_id <> ALL ($1::uuid[]));

-- name: glance
-- What a worker holds, and how much waits in it.
SELECT webhook_id, turn, pending FROM catalyst.webhook_queues WHERE worker_id = $1;

-- name: configuration
SELECT w.*, ARRAY(SELECT (s.kind, s.wrapped, s.id) FROM catalyst.webhook_secrets s
                  WHERE s.webhook_id = w.id AND (s.valid_until IS NULL OR s.valid_until > now())
                  ORDER BY s.valid_until DESC NULLS FIRST, s.created_at DESC, s.id) AS secrets
FROM catalyst.webhooks w
WHERE w.id = $1;

-- name: configurations_after
SELECT w.*, ARRAY(SELECT (s.kind, s.wrapped, s.id) FROM catalyst.webhook_secrets s
                  WHERE s.webhook_id = w.id AND (s.valid_until IS NULL OR s.valid_until > now()) ORDER BY s.id) AS secrets
FROM catalyst.webhooks w
WHERE w.status <> 'disabled' AND ($1::uuid IS NULL OR w.id > $1)
ORDER BY w.id
LIMIT $2;

-- name: read
-- What is due, but for what the worker has in hand ($3), at most $4; one row without a position where nothing is. No row: the turn
-- ($2) is over. "next_in": in how many seconds something is due that is not yet. From "due_at" on: what was due before is done with, and its entries
-- in the index, of which there may be very many until a vacuum, are not gone through at each read.
SELECT q.pending, w.status AS webhook_status, w.updated_at,
       (SELECT EXTRACT(epoch FROM min(n.next_attempt_at) - now())::float8 FROM catalyst.webhook_deliveries n
        WHERE n.webhook_id = q.webhook_id AND n.status = 'pending' AND n.next_attempt_at > now()) AS next_in,
       d.position, d.attempts, NULL::text AS resource, NULL::bigint AS before, e.id, e.type, e.created_at, e.revision, e.data
FROM catalyst.webhook_queues q
JOIN catalyst.webhooks w ON w.id = q.webhook_id
LEFT JOIN LATERAL (
    SELECT u.position, u.attempts, u.next_attempt_at
    FROM catalyst.webhook_deliveries u
    WHERE u.webhook_id = q.webhook_id AND u.status = 'pending' AND u.next_attempt_at BETWEEN q.due_at AND now()
      AND u.position <> ALL ($3::bigint[])
    ORDER BY u.next_attempt_at, u.position
    LIMIT $4
) d ON true
LEFT JOIN catalyst.webhook_events e ON e.position = d.position
WHERE q.webhook_id = $1 AND q.turn = $2
ORDER BY d.position;

-- name: read_in_order
-- The same for an endpoint that wants the events of one thing one after the other. "before": the delivery that must have ended
-- before this one is sent. What waits for one that is due later waits as long, and is not looked at again until then; what waits for
-- one that was not read goes behind it.
WITH due AS MATERIALIZED (
    SELECT u.position, u.attempts, u.next_attempt_at, u.resource
    FROM catalyst.webhook_deliveries u
    WHERE u.webhook_id = $1 AND u.status = 'pending' AND u.position <> ALL ($3::bigint[])
      AND u.next_attempt_at BETWEEN (SELECT q.due_at FROM catalyst.webhook_queues q WHERE q.webhook_id = $1) AND now()
    ORDER BY u.next_attempt_at, u.position
    LIMIT $4
), placed AS MATERIALIZED (
    SELECT d.*, b.position AS before, f.position AS first, f.next_attempt_at AS first_at
    FROM due d
    LEFT JOIN LATERAL (
        SELECT p.position FROM catalyst.webhook_deliveries p
        WHERE p.webhook_id = $1 AND p.resource = d.resource AND p.next_attempt_at IS NOT NULL AND p.position < d.position
        ORDER BY p.resource DESC, p.position DESC LIMIT 1
    ) b ON true
    LEFT JOIN LATERAL (
        SELECT p.position, p.next_attempt_at FROM catalyst.webhook_deliveries p
        WHERE p.webhook_id = $1 AND p.resource = d.resource AND p.next_attempt_at IS NOT NULL AND p.position < d.position
        ORDER BY p.resource, p.position LIMIT 1
    ) f ON true
), parked AS (
    UPDATE catalyst.webhook_deliveries d SET next_attempt_at = p.first_at
    FROM placed p
    WHERE d.webhook_id = $1 AND d.position = p.position AND d.next_attempt_at IS NOT NULL AND p.first_at > p.next_attempt_at
      AND (p.first_at > now() OR p.first NOT IN (SELECT position FROM due))
      AND EXISTS (SELECT FROM catalyst.webhook_queues q WHERE q.webhook_id = $1 AND q.turn = $2)
)
SELECT q.pending, w.status AS webhook_status, w.updated_at,
       LEAST((SELECT EXTRACT(epoch FROM min(n.next_attempt_at) - now())::float8 FROM catalyst.webhook_deliveries n
              WHERE n.webhook_id = q.webhook_id AND n.status = 'pending' AND n.next_attempt_at > now()),
             (SELECT EXTRACT(epoch FROM min(p.first_at) - now())::float8 FROM placed p WHERE p.first_at > now())) AS next_in,
       d.position, d.attempts, d.resource, d.before, e.id, e.type, e.created_at, e.revision, e.data
FROM catalyst.webhook_queues q
JOIN catalyst.webhooks w ON w.id = q.webhook_id
LEFT JOIN placed d ON true
LEFT JOIN catalyst.webhook_events e ON e.position = d.position
WHERE q.webhook_id = $1 AND q.turn = $2
ORDER BY d.position;

-- name: record
-- What came of attempts of several queues. The attempts are kept whoever holds the queues by now; what they change, only where the
-- turn is still the same. $12: this may have been written already, look. Health is written where it is as it was known ($18, $19).
WITH told AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::smallint[], $5::text[], $6::timestamptz[],
                         $7::timestamptz[], $8::real[], $9::smallint[], $10::text[], $11::text[])
        WITH ORDINALITY AS t (webhook_id, turn, position, attempts, status, next_attempt_at, at, milliseconds, status_code, error,
                              answer, number)
), health AS MATERIALIZED (
    SELECT * FROM unnest($13::uuid[], $14::bigint[], $15::int[], $16::timestamptz[], $17::timestamptz[], $18::int[], $19::timestamptz[],
                         $20::int[])
        AS h (webhook_id, turn, failures, failing_since, held_until, known_failures, known_held_until, in_flight)
), kept AS (
    INSERT INTO catalyst.webhook_attempts (webhook_id, position, at, milliseconds, status_code, error, answer)
    SELECT t.webhook_id, t.position, t.at, t.milliseconds, t.status_code, t.error, t.answer FROM told t
    WHERE NOT ($12::boolean AND EXISTS (SELECT FROM catalyst.webhook_attempts a
                                        WHERE a.webhook_id = t.webhook_id AND a.position = t.position AND a.at = t.at))
    ORDER BY t.number
), held AS MATERIALIZED (
    SELECT q.webhook_id, q.turn
    FROM catalyst.webhook_queues q
    WHERE (q.webhook_id, q.turn) IN (SELECT h.webhook_id, h.turn FROM health h)
    ORDER BY q.webhook_id
    FOR UPDATE
), moved AS (
    UPDATE catalyst.webhook_deliveries d
    SET status = t.status, attempts = t.attempts + 1, next_attempt_at = t.next_attempt_at
    FROM told t
    JOIN held USING (webhook_id, turn)
    WHERE d.webhook_id = t.webhook_id AND d.position = t.position AND d.next_attempt_at IS NOT NULL AND d.attempts = t.attempts
    RETURNING d.webhook_id, d.position, d.status, d.resource, t.attempts
), freed AS (
    -- The next of a thing's events, where one that was sent earlier than planned held it back.
    UPDATE catalyst.webhook_deliveries d SET next_attempt_at = now()
    FROM (SELECT m.webhook_id, m.resource, max(m.position) AS position FROM moved m
          WHERE m.status <> 'pending' AND m.resource IS NOT NULL GROUP BY m.webhook_id, m.resource) AS m
    CROSS JOIN LATERAL (
        SELECT n.position, n.attempts, n.next_attempt_at FROM catalyst.webhook_deliveries n
        WHERE n.webhook_id = m.webhook_id AND n.resource = m.resource AND n.next_attempt_at IS NOT NULL AND n.position > m.position
        ORDER BY n.resource, n.position LIMIT 1
    ) AS n
    WHERE d.webhook_id = m.webhook_id AND d.position = n.position AND d.next_attempt_at IS NOT NULL AND d.attempts = 0
      AND n.attempts = 0 AND n.next_attempt_at > now()
      AND NOT EXISTS (SELECT FROM told t WHERE t.webhook_id = m.webhook_id AND t.position = n.position)
), counted AS (
    SELECT held.webhook_id, held.turn, count(*) FILTER (WHERE m.status <> 'pending') AS ended, count(*) FILTER (WHERE m.status = 'dead') AS dead,
           count(*) FILTER (WHERE m.status = 'pending' AND m.attempts = 0)
               - count(*) FILTER (WHERE m.status <> 'pending' AND m.attempts > 0) AS retrying
    FROM held LEFT JOIN moved m USING (webhook_id)
    GROUP BY held.webhook_id, held.turn
), written AS (
    UPDATE catalyst.webhook_queues q
    SET pending = q.pending - c.ended, dead = q.dead + c.dead, retrying = q.retrying + c.retrying,
        (failures, failing_since, held_until, in_flight) = (
            SELECT n.failures, n.failing_since, n.held_until, n.in_flight
            FROM (VALUES (h.failures, h.failing_since, h.held_until, h.in_flight, true),
                         (q.failures, q.failing_since, q.held_until, q.in_flight, false))
                 AS n (failures, failing_since, held_until, in_flight, ours)
            WHERE n.ours = (q.failures = h.known_failures AND q.held_until IS NOT DISTINCT FROM h.known_held_until))
    FROM counted c
    JOIN health h USING (webhook_id, turn)
    WHERE q.webhook_id = c.webhook_id
    RETURNING q.webhook_id, q.turn, q.pending, c.ended, q.failures, q.failing_since, q.held_until, q.in_flight
)
SELECT n.*, w.status AS webhook_status, w.updated_at
FROM written n
JOIN catalyst.webhooks w ON w.id = n.webhook_id;

-- name: end_turns
SELECT catalyst.end_turns($1, $2, $3);

-- name: disable
SELECT catalyst.disable_webhook($1, $2, $3);

-- name: enter
INSERT INTO catalyst.workers (id, version, until) VALUES ($1, $2, now() + make_interval(secs => $3));

-- name: beat
-- No row: whoever it was has been taken for dead.
UPDATE catalyst.workers SET until = now() + make_interval(secs => $2) WHERE id = $1 RETURNING id;

-- name: sweep
-- Workers that are late. Their queues are held first, in the order in which everybody takes them.
WITH late AS MATERIALIZED (
    SELECT id FROM catalyst.workers WHERE until < now() ORDER BY id FOR UPDATE SKIP LOCKED
), held AS MATERIALIZED (
    SELECT q.webhook_id FROM catalyst.webhook_queues q WHERE q.worker_id IN (SELECT id FROM late) ORDER BY q.webhook_id FOR UPDATE
), gone AS (
    DELETE FROM catalyst.workers WHERE id IN (SELECT id FROM late) AND (SELECT count(*) FROM held) >= 0 RETURNING id
)
SELECT count(*), CASE WHEN count(*) > 0 THEN pg_notify('catalyst_webhooks', 'queues') END FROM gone;

-- name: leave
WITH held AS MATERIALIZED (
    SELECT q.webhook_id FROM catalyst.webhook_queues q WHERE q.worker_id = $1 ORDER BY q.webhook_id FOR UPDATE
), gone AS (
    DELETE FROM catalyst.workers WHERE id = $1 AND (SELECT count(*) FROM held) >= 0
)
SELECT pg_notify('catalyst_webhooks', 'queues');
