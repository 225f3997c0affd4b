-- name: count
-- In the order of slots, so that no two of these wait for each other. A place whose window has ended, or whose holder has failed less
-- than $4 times, goes to who fails now; one with a holder who fails much is kept until its window ends.
INSERT INTO catalyst.attempts AS known (slot, key, failures, ends_at)
SELECT slot, key, 1, now() + make_interval(secs => $3)
FROM unnest($1::integer[], $2::bytea[]) AS failed (slot, key)
ORDER BY slot
ON CONFLICT (slot) DO UPDATE
SET key = excluded.key,
    failures = CASE WHEN known.key = excluded.key AND known.ends_at > now() THEN known.failures + 1 ELSE 1 END,
    ends_at = CASE WHEN known.key = excluded.key AND known.ends_at > now() THEN known.ends_at ELSE excluded.ends_at END
WHERE known.key = excluded.key OR known.ends_at <= now() OR known.failures < $4
RETURNING key, failures, extract(epoch FROM ends_at - now())::float8 AS seconds;

-- name: forget
DELETE FROM catalyst.attempts WHERE ends_at <= now();
