-- name: open
-- Of an org by lot, whoever asks for however many; of these the one that has got least so far: a small one does not wait for a
-- large one to end.
SELECT r.id, r.webhook_id, r.which, r.since, LEAST(r.until, r.created_at) AS until, r.event_id, r.total
FROM (SELECT w.org_id FROM catalyst.webhook_replays o JOIN catalyst.webhooks w ON w.id = o.webhook_id
      WHERE o.finished_at IS NULL GROUP BY w.org_id ORDER BY random() LIMIT 1) drawn
JOIN catalyst.webhooks w ON w.org_id IS NOT DISTINCT FROM drawn.org_id
JOIN catalyst.webhook_replays r ON r.webhook_id = w.id
WHERE r.finished_at IS NULL
ORDER BY r.queued, r.created_at, r.id
LIMIT 1;

-- name: hold_queue
-- Whoever changes deliveries that are there holds their queue: what it counts stays true. False: nothing is sent there any more.
SELECT w.status <> 'disabled'
FROM catalyst.webhook_queues q
JOIN catalyst.webhooks w ON w.id = q.webhook_id
WHERE q.webhook_id = $1
FOR UPDATE OF q;

-- name: hold
-- How far it is. No row: it was finished meanwhile.
SELECT reached FROM catalyst.webhook_replays WHERE id = $1 AND finished_at IS NULL FOR UPDATE;

-- name: dead_letters
SELECT d.position
FROM catalyst.webhook_deliveries d
JOIN catalyst.webhook_events e USING (position)
WHERE d.webhook_id = $1 AND d.status = 'dead' AND d.position > $2
  AND ($3::timestamptz IS NULL OR e.created_at >= $3) AND e.created_at < $4
ORDER BY d.position
LIMIT $5;

-- name: events
-- Whether they are for the endpoint is seen when they are queued.
SELECT e.position
FROM catalyst.webhook_events e
WHERE e.position > $1 AND ($2::timestamptz IS NULL OR e.created_at >= $2) AND e.created_at < $3
ORDER BY e.position
LIMIT $4;

-- name: event
SELECT e.position FROM catalyst.webhook_events e WHERE e.id = $1 AND e.position > $2;

-- name: wanted
-- Which of some events ($2) a replay queues anew.
SELECT e.position
FROM unnest($2::bigint[]) AS e (position)
LEFT JOIN catalyst.webhook_deliveries d ON d.webhook_id = $1 AND d.position = e.position
WHERE d.status = 'dead'
   OR ($3::text = 'all' AND d.status IS NOT NULL)
   OR ($3::text <> 'dead' AND d.status IS NULL AND e.position IN (SELECT catalyst.subscribed_to($1, $2)));

-- name: requeue
WITH again AS MATERIALIZED (
    SELECT e.position, d.status, d.attempts,
           CASE WHEN w.ordered THEN left(split_part(e.type, '.', 1) || ' ' || (e.data ->> 'id'), 300) END AS resource
    FROM catalyst.webhook_events e
    JOIN catalyst.webhooks w ON w.id = $1
    LEFT JOIN catalyst.webhook_deliveries d ON d.webhook_id = $1 AND d.position = e.position
    WHERE e.position = ANY ($2::bigint[])
), queued AS (
    INSERT INTO catalyst.webhook_deliveries (webhook_id, position, next_attempt_at, resource, replay_id)
    SELECT $1, a.position, now(), a.resource, $3 FROM again a ORDER BY a.position
    ON CONFLICT (webhook_id, position) DO UPDATE
    SET status = 'pending', attempts = 0, next_attempt_at = EXCLUDED.next_attempt_at, resource = EXCLUDED.resource,
        replay_id = EXCLUDED.replay_id
), counted AS (
    SELECT count(*) FILTER (WHERE a.status IS DISTINCT FROM 'pending') AS pending, count(*) FILTER (WHERE a.status = 'dead') AS dead,
           count(*) FILTER (WHERE a.status = 'pending' AND a.attempts > 0) AS retrying
    FROM again a
)
UPDATE catalyst.webhook_queues q
SET pending = q.pending + c.pending, dead = q.dead - c.dead, retrying = q.retrying - c.retrying,
    due_at = LEAST(COALESCE(q.due_at, now()), now())
FROM counted c
WHERE q.webhook_id = $1;

-- name: counted
UPDATE catalyst.webhook_replays
SET total = $2::bigint, finished_at = CASE WHEN $2::bigint = 0 THEN now() END
WHERE id = $1 AND total = 0 AND finished_at IS NULL;

-- name: told
-- What was counted may have become more or less since.
UPDATE catalyst.webhook_replays
SET queued = queued + $2::bigint, reached = $3,
    total = CASE WHEN $4::boolean THEN queued + $2::bigint ELSE GREATEST(total, queued + $2::bigint) END,
    finished_at = CASE WHEN $4::boolean THEN now() END
WHERE id = $1;

-- name: given_up
UPDATE catalyst.webhook_replays SET finished_at = now() WHERE id = $1;

-- name: ring
SELECT pg_notify('catalyst_webhooks', 'queues');

-- name: forget
DELETE FROM catalyst.webhook_replays WHERE finished_at < now() - make_interval(days => $1);
