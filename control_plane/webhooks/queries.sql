-- name: hold_org
-- Whoever adds an endpoint to an org waits for whoever does so at the same moment: none is counted twice, none not at all.
SELECT pg_advisory_xact_lock(hashtextextended('webhooks of ' || COALESCE($1::uuid::text, 'the platform'), 0));

-- name: count
SELECT count(*) FROM catalyst.webhooks WHERE org_id IS NOT DISTINCT FROM $1::uuid;

-- name: insert
INSERT INTO catalyst.webhooks (
    id, org_id, url, description, events, payload, ordered, signatures, retry_schedule, timeout_seconds, rate_limit, max_in_flight,
    client_certificate, ca_bundle, header_names)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15);

-- name: find
SELECT w.id, w.org_id AS org, w.url, w.description, w.events, w.status, w.disabled_reason, w.status_at, w.payload, w.ordered,
       w.signatures, w.retry_schedule, w.timeout_seconds, w.rate_limit, w.max_in_flight, w.client_certificate, w.ca_bundle,
       w.header_names, w.created_at, w.updated_at, q.pending, q.retrying, q.dead, q.failures, q.failing_since, q.held_until,
       (SELECT max(a.id) FROM catalyst.webhook_attempts a WHERE a.webhook_id = w.id) AS last_attempt,
       (SELECT s.wrapped FROM catalyst.webhook_secrets s WHERE s.webhook_id = w.id AND s.kind = 'headers') AS headers,
       (SELECT s.wrapped FROM catalyst.webhook_secrets s WHERE s.webhook_id = w.id AND s.kind = 'client_key') AS client_key,
       (SELECT s.public_key FROM catalyst.webhook_secrets s
        WHERE s.webhook_id = w.id AND s.kind = 'v1a' AND s.valid_until IS NULL) AS public_key,
       (SELECT max(s.valid_until) FROM catalyst.webhook_secrets s
        WHERE s.webhook_id = w.id AND s.valid_until > now()) AS secrets_overlap_until
FROM catalyst.webhooks w
JOIN catalyst.webhook_queues q ON q.webhook_id = w.id
WHERE w.id = $1;

-- name: lock
SELECT id FROM catalyst.webhooks WHERE id = $1 FOR UPDATE;

-- name: list
SELECT w.id, w.org_id AS org, w.url, w.description, w.events, w.status, w.disabled_reason, w.status_at, w.payload, w.ordered,
       w.signatures, w.retry_schedule, w.timeout_seconds, w.rate_limit, w.max_in_flight, w.client_certificate, w.ca_bundle,
       w.header_names, w.created_at, w.updated_at, q.pending, q.retrying, q.dead, q.failures, q.failing_since, q.held_until,
       (SELECT max(a.id) FROM catalyst.webhook_attempts a WHERE a.webhook_id = w.id) AS last_attempt,
       (SELECT s.public_key FROM catalyst.webhook_secrets s
        WHERE s.webhook_id = w.id AND s.kind = 'v1a' AND s.valid_until IS NULL) AS public_key,
       (SELECT max(s.valid_until) FROM catalyst.webhook_secrets s
        WHERE s.webhook_id = w.id AND s.valid_until > now()) AS secrets_overlap_until
FROM catalyst.webhooks w
JOIN catalyst.webhook_queues q ON q.webhook_id = w.id
WHERE ($1::uuid IS NULL OR w.org_id = $1)
  AND ($2::text IS NULL OR w.status = $2)
  AND ($3::uuid IS NULL OR w.id > $3)
ORDER BY w.id
LIMIT $4;

-- name: update
UPDATE catalyst.webhooks
SET url = $2, description = $3, events = $4, payload = $5, ordered = $6, signatures = $7, retry_schedule = $8, timeout_seconds = $9,
    rate_limit = $10, max_in_flight = $11, client_certificate = $12, ca_bundle = $13, header_names = $14, status = $15,
    disabled_reason = CASE WHEN $15 = 'disabled' THEN disabled_reason END,
    status_at = CASE WHEN status = $15 THEN status_at ELSE now() END, updated_at = now()
WHERE id = $1;

-- name: delete
DELETE FROM catalyst.webhooks WHERE id = $1;

-- name: touch
UPDATE catalyst.webhooks SET updated_at = now() WHERE id = $1;

-- name: to_send
-- As `delivery.endpoint.opened` takes it.
SELECT w.id, w.org_id, w.url, w.payload, w.ordered, w.retry_schedule, w.timeout_seconds, w.rate_limit, w.max_in_flight,
       w.client_certificate, w.ca_bundle,
       ARRAY(SELECT (s.kind, s.wrapped, s.id) FROM catalyst.webhook_secrets s
             WHERE s.webhook_id = w.id AND (s.valid_until IS NULL OR s.valid_until > now())
             ORDER BY s.valid_until DESC NULLS FIRST, s.kind) AS secrets
FROM catalyst.webhooks w
WHERE w.id = $1;
