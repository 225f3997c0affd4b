-- name: insert
INSERT INTO catalyst.webhook_secrets (id, webhook_id, kind, wrapped, public_key) VALUES ($1, $2, $3, $4, $5);

-- name: current
SELECT id, wrapped FROM catalyst.webhook_secrets WHERE webhook_id = $1 AND kind = $2 AND valid_until IS NULL;

-- name: delete
DELETE FROM catalyst.webhook_secrets WHERE webhook_id = $1 AND kind = ANY ($2::text[]);

-- name: retire
-- Earlier ones end no later than this one: whoever shortens an overlap means all of them.
UPDATE catalyst.webhook_secrets
SET valid_until = LEAST(valid_until, now() + make_interval(secs => $3::int))
WHERE webhook_id = $1 AND kind = ANY ($2::text[]);

-- name: earlier
SELECT COALESCE(max(n), 0)
FROM (SELECT count(*) AS n FROM catalyst.webhook_secrets
      WHERE webhook_id = $1 AND kind = ANY ($2::text[]) AND valid_until > now()
      GROUP BY kind) AS of_a_kind;

-- name: forget
DELETE FROM catalyst.webhook_secrets WHERE valid_until < now();

-- name: sealed_by
SELECT substring(wrapped FOR 12) AS head, count(*) AS values FROM catalyst.webhook_secrets GROUP BY 1;

-- name: sealed
SELECT webhook_id || ' ' || kind || ' ' || id AS key, wrapped AS sealed
FROM catalyst.webhook_secrets
WHERE $1::text IS NULL OR id > split_part($1, ' ', 3)::uuid
ORDER BY id
LIMIT $2
FOR UPDATE;

-- name: reseal
UPDATE catalyst.webhook_secrets s
SET wrapped = new.sealed
FROM unnest($1::text[], $2::bytea[]) AS new (key, sealed)
WHERE s.id = split_part(new.key, ' ', 3)::uuid;
