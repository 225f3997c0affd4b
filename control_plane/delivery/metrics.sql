-- name: queues
-- One row of what waits, by what its endpoint does. Each queue knows its numbers: nothing is counted here. When it is due stands there
-- as it was when its turn began: while it is served, that says something only if it has more than what was tried already.
SELECT state, count(*) AS endpoints, sum(pending) AS pending, sum(retrying) AS retrying, sum(dead) AS dead,
       COALESCE(EXTRACT(epoch FROM now() - min(due_at) FILTER (WHERE worker_id IS NULL OR pending > retrying)), 0)::float8 AS age
FROM (SELECT q.*, CASE WHEN w.status <> 'active' THEN w.status WHEN q.held_until > now() THEN 'held' ELSE 'active' END AS state
      FROM catalyst.webhook_queues AS q JOIN catalyst.webhooks AS w ON w.id = q.webhook_id) AS queue
GROUP BY state;

-- name: beside
-- Events that nobody has been found for yet, counted as far as $1, and the age of the first; workers that are alive.
SELECT (SELECT count(*) FROM (SELECT FROM catalyst.outbox_events LIMIT $1) AS first) AS backlog,
       COALESCE((SELECT EXTRACT(epoch FROM now() - created_at) FROM catalyst.outbox_events ORDER BY position LIMIT 1), 0)::float8 AS age,
       (SELECT count(*) FROM catalyst.workers WHERE until > now()) AS workers;
