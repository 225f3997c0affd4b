-- name: head
SELECT revision, epoch, committed_at FROM replica.head;

-- name: list
-- Sidecars report every five seconds. Late: three reports are missing. Live, for those who wait for all of them: within a minute.
SELECT s.id, s.version, s.applications, s.revision, GREATEST(h.revision - s.revision, 0) AS behind, s.lag_seconds,
       s.seen_at > now() - interval '1 minute' AS live, s.started_at, s.seen_at,
       CASE WHEN s.seen_at > now() - interval '15 seconds' THEN 'live'
            WHEN s.seen_at > now() - interval '1 minute' THEN 'late' ELSE 'gone' END AS state
FROM catalyst.sidecars s, replica.head h
WHERE $1::uuid IS NULL OR s.id > $1
ORDER BY s.id
LIMIT $2;

-- name: assertion_keys
-- A sidecar that stopped has signed nothing that is good for longer than a minute after its last report.
SELECT DISTINCT ON (assertion_jwk ->> 'kid') assertion_jwk::text AS jwk
FROM catalyst.sidecars
WHERE seen_at > now() - interval '2 minutes'
ORDER BY assertion_jwk ->> 'kid', started_at;

-- name: signers
SELECT id, assertion_jwk::text AS jwk
FROM catalyst.sidecars
WHERE assertion_jwk ->> 'kid' = $1 AND seen_at > now() - interval '2 minutes'
ORDER BY started_at, id;

-- name: reached
-- By the slowest sidecar that is live; the head where there is none.
SELECT COALESCE((SELECT min(revision) FROM catalyst.sidecars WHERE seen_at > now() - interval '1 minute'), revision)
FROM replica.head;

-- name: list_workers
SELECT w.id, w.version, w.started_at, w.until, w.until > now() AS live,
       (SELECT count(*) FROM catalyst.webhook_queues AS q WHERE q.worker_id = w.id) AS webhooks
FROM catalyst.workers AS w
WHERE $1::uuid IS NULL OR w.id > $1
ORDER BY w.id
LIMIT $2;
