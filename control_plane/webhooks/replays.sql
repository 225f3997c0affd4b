-- name: webhook
SELECT id, org_id AS org, status FROM catalyst.webhooks WHERE id = $1;

-- name: event
SELECT id FROM catalyst.webhook_events WHERE id = $1;

-- name: hold
-- Whoever asks for a replay waits for whoever does so at the same moment: each is counted.
SELECT pg_advisory_xact_lock(hashtextextended('replays of ' || $1::uuid, 0));

-- name: open
SELECT count(*) FROM catalyst.webhook_replays WHERE webhook_id = $1 AND finished_at IS NULL;

-- name: insert
INSERT INTO catalyst.webhook_replays (id, webhook_id, which, since, until, event_id) VALUES ($1, $2, $3, $4, $5, $6);

-- name: find
SELECT r.id, r.webhook_id AS webhook, r.which, r.event_id AS event, r.since, r.until, r.total, r.queued, r.created_at, r.finished_at,
       c.pending, c.retrying, c.delivered, c.dead
FROM catalyst.webhook_replays r
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE d.status = 'pending') AS pending,
           count(*) FILTER (WHERE d.status = 'pending' AND d.attempts > 0) AS retrying,
           count(*) FILTER (WHERE d.status = 'delivered') AS delivered, count(*) FILTER (WHERE d.status = 'dead') AS dead
    FROM catalyst.webhook_deliveries d WHERE d.replay_id = r.id) c
WHERE r.webhook_id = $1 AND r.id = $2;

-- name: list
SELECT r.id, r.webhook_id AS webhook, r.which, r.event_id AS event, r.since, r.until, r.total, r.queued, r.created_at, r.finished_at,
       c.pending, c.retrying, c.delivered, c.dead
FROM (SELECT * FROM catalyst.webhook_replays
      WHERE webhook_id = $1 AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3::uuid))
      ORDER BY created_at DESC, id DESC
      LIMIT $4) r
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE d.status = 'pending') AS pending,
           count(*) FILTER (WHERE d.status = 'pending' AND d.attempts > 0) AS retrying,
           count(*) FILTER (WHERE d.status = 'delivered') AS delivered, count(*) FILTER (WHERE d.status = 'dead') AS dead
    FROM catalyst.webhook_deliveries d WHERE d.replay_id = r.id) c
ORDER BY r.created_at DESC, r.id DESC;
