-- name: webhook
SELECT payload FROM catalyst.webhooks WHERE id = $1;

-- name: plan_for_these_filters
-- A plan for any filters would read every delivery where an index leads to a few.
SELECT set_config('plan_cache_mode', 'force_custom_plan', true);

-- name: list
-- The page first, then the newest attempt of each of its lines: by time, so that nobody reads the attempts of all others by their ids.
SELECT page.*, a.at, a.milliseconds, a.status_code, a.error
FROM (SELECT d.webhook_id, d.position, d.status, d.attempts, d.next_attempt_at, d.replay_id AS replay, e.id AS event, e.type, e.created_at
      FROM catalyst.webhook_deliveries AS d
      JOIN catalyst.webhook_events AS e ON e.position = d.position
      WHERE d.webhook_id = $1
        AND ($2::text IS NULL OR d.status = $2)
        AND ($3::text IS NULL OR e.type = $3)
        AND ($4::text IS NULL OR starts_with(e.type, $4))
        AND ($5::timestamptz IS NULL OR e.created_at >= $5)
        AND ($6::timestamptz IS NULL OR e.created_at < $6)
        AND ($7::bigint IS NULL OR d.position < $7)
      ORDER BY d.position DESC
      LIMIT $8) AS page
LEFT JOIN LATERAL (
    SELECT t.at, t.milliseconds, t.status_code, t.error FROM catalyst.webhook_attempts AS t
    WHERE t.webhook_id = page.webhook_id AND t.position = page.position
    ORDER BY t.at DESC, t.id DESC LIMIT 1) AS a ON true
ORDER BY page.position DESC;

-- name: find
SELECT d.position, d.status, d.attempts, d.next_attempt_at, d.replay_id AS replay, e.id AS event, e.type, e.created_at, e.org_id AS org,
       e.revision, e.data::text AS data
FROM catalyst.webhook_events AS e
JOIN catalyst.webhook_deliveries AS d ON d.position = e.position AND d.webhook_id = $1
WHERE e.id = $2;

-- name: history
SELECT t.id, t.at, t.milliseconds, t.status_code, t.error, t.answer, row_number() OVER (ORDER BY t.at, t.id) AS number
FROM catalyst.webhook_attempts AS t
WHERE t.webhook_id = $1 AND t.position = $2
ORDER BY t.at DESC, t.id DESC
LIMIT $3;

-- name: newest_attempts
SELECT page.*, e.id AS event, e.type,
       (SELECT count(*) FROM catalyst.webhook_attempts AS t
        WHERE t.webhook_id = page.webhook_id AND t.position = page.position AND t.id <= page.id) AS number
FROM (SELECT a.* FROM catalyst.webhook_attempts AS a
      WHERE a.webhook_id = $1 AND (NOT $2::boolean OR a.error IS NOT NULL) AND ($3::bigint IS NULL OR a.id < $3)
      ORDER BY a.id DESC
      LIMIT $4) AS page
JOIN catalyst.webhook_events AS e ON e.position = page.position
ORDER BY page.id DESC;

-- name: attempts_after
SELECT page.*, e.id AS event, e.type,
       (SELECT count(*) FROM catalyst.webhook_attempts AS t
        WHERE t.webhook_id = page.webhook_id AND t.position = page.position AND t.id <= page.id) AS number
FROM (SELECT a.* FROM catalyst.webhook_attempts AS a
      WHERE a.webhook_id = $1 AND (NOT $2::boolean OR a.error IS NOT NULL) AND a.id > $3
      ORDER BY a.id
      LIMIT $4) AS page
JOIN catalyst.webhook_events AS e ON e.position = page.position
ORDER BY page.id;
