-- name: begin
-- One worker at a time; false: another does it now. A worker that dies gives it back with its connection.
SELECT pg_try_advisory_lock(hashtextextended('catalyst webhook housekeeping', 0));

-- name: end
SELECT pg_advisory_unlock(hashtextextended('catalyst webhook housekeeping', 0));

-- name: disabled
SELECT q.webhook_id FROM catalyst.webhook_queues q
JOIN catalyst.webhooks w ON w.id = q.webhook_id
WHERE w.status = 'disabled' AND q.pending > 0
ORDER BY q.webhook_id;

-- name: hold_queue
-- Whoever enables the endpoint meanwhile waits, and finds everything dead or nothing.
SELECT FROM catalyst.webhook_queues WHERE webhook_id = $1 FOR UPDATE;

-- name: bury
WITH chosen AS (
    SELECT d.position, d.attempts FROM catalyst.webhook_deliveries d
    WHERE d.webhook_id = $1 AND d.status = 'pending'
      AND EXISTS (SELECT FROM catalyst.webhooks w WHERE w.id = $1 AND w.status = 'disabled')
    ORDER BY d.position
    LIMIT $2
), buried AS (
    UPDATE catalyst.webhook_deliveries d SET status = 'dead', next_attempt_at = NULL
    FROM chosen
    WHERE d.webhook_id = $1 AND d.position = chosen.position
    RETURNING chosen.attempts
), counted AS (
    SELECT count(*) AS deliveries, count(*) FILTER (WHERE attempts > 0) AS retried FROM buried
)
UPDATE catalyst.webhook_queues q
SET pending = q.pending - c.deliveries, retrying = q.retrying - c.retried, dead = q.dead + c.deliveries,
    due_at = CASE WHEN q.pending > c.deliveries THEN q.due_at END
FROM counted c
WHERE q.webhook_id = $1
RETURNING c.deliveries;

-- name: last_old
-- How far the oldest $2 events reach that are older than is kept.
SELECT max(position) FROM (
    SELECT position FROM catalyst.webhook_events
    WHERE created_at < now() - make_interval(days => $1) ORDER BY created_at LIMIT $2
) AS old;

-- name: with_deliveries
SELECT q.webhook_id FROM catalyst.webhook_queues q
WHERE EXISTS (SELECT FROM catalyst.webhook_deliveries d WHERE d.webhook_id = q.webhook_id AND d.position <= $1)
ORDER BY q.webhook_id;

-- name: forget_deliveries
WITH chosen AS (
    SELECT position FROM catalyst.webhook_deliveries WHERE webhook_id = $1 AND position <= $2 ORDER BY position LIMIT $3
), gone AS (
    DELETE FROM catalyst.webhook_deliveries WHERE webhook_id = $1 AND position IN (SELECT position FROM chosen)
    RETURNING status, attempts
), attempted AS (
    DELETE FROM catalyst.webhook_attempts WHERE webhook_id = $1 AND position IN (SELECT position FROM chosen)
), counted AS (
    SELECT count(*) AS deliveries, count(*) FILTER (WHERE status = 'pending') AS pending,
           count(*) FILTER (WHERE status = 'pending' AND attempts > 0) AS retrying, count(*) FILTER (WHERE status = 'dead') AS dead
    FROM gone
), told AS (
    UPDATE catalyst.webhook_queues q
    SET pending = q.pending - c.pending, retrying = q.retrying - c.retrying, dead = q.dead - c.dead
    FROM counted c
    WHERE q.webhook_id = $1
)
SELECT deliveries FROM counted;

-- name: forget_events
DELETE FROM catalyst.webhook_events WHERE position <= $1;

-- name: orphans
-- Endpoints that are gone and left something. One step for each endpoint, not for each of its rows.
WITH RECURSIVE delivered AS (
    (SELECT webhook_id FROM catalyst.webhook_deliveries ORDER BY webhook_id LIMIT 1)
    UNION ALL
    SELECT (SELECT d.webhook_id FROM catalyst.webhook_deliveries d WHERE d.webhook_id > r.webhook_id ORDER BY d.webhook_id LIMIT 1)
    FROM delivered r WHERE r.webhook_id IS NOT NULL
), attempted AS (
    (SELECT webhook_id FROM catalyst.webhook_attempts ORDER BY webhook_id LIMIT 1)
    UNION ALL
    SELECT (SELECT a.webhook_id FROM catalyst.webhook_attempts a WHERE a.webhook_id > r.webhook_id ORDER BY a.webhook_id LIMIT 1)
    FROM attempted r WHERE r.webhook_id IS NOT NULL
)
SELECT webhook_id FROM (SELECT webhook_id FROM delivered UNION SELECT webhook_id FROM attempted) AS found
WHERE webhook_id IS NOT NULL AND NOT EXISTS (SELECT FROM catalyst.webhooks w WHERE w.id = found.webhook_id)
ORDER BY webhook_id;

-- name: forget_orphans
WITH deliveries AS (
    DELETE FROM catalyst.webhook_deliveries
    WHERE webhook_id = $1 AND position IN (SELECT position FROM catalyst.webhook_deliveries WHERE webhook_id = $1 LIMIT $2)
    RETURNING 1
), attempts AS (
    DELETE FROM catalyst.webhook_attempts
    WHERE webhook_id = $1 AND id IN (SELECT id FROM catalyst.webhook_attempts WHERE webhook_id = $1 LIMIT $2)
    RETURNING 1
)
SELECT (SELECT count(*) FROM deliveries) + (SELECT count(*) FROM attempts);
