-- name: hold
-- Until the end of the transaction: a login and a logout of the same person or session at a provider come one after the other.
SELECT pg_advisory_xact_lock($1);

-- name: remember
INSERT INTO catalyst.provider_logouts (provider_id, jti, subject, sid, issued_at, kept_until)
VALUES ($1, $2, $3, $4, $5, clock_timestamp() + make_interval(secs => $6))
ON CONFLICT DO NOTHING
RETURNING provider_id;

-- name: overtaken
-- $5: when the login began, $4: when the provider says that the person logged in, if it does. A provider that tells no session
-- in its ID tokens ($3 NULL) may name one in its logout tokens: then the person is what is compared.
SELECT EXISTS (
    SELECT
    FROM catalyst.provider_logouts
    WHERE provider_id = $1
      AND (sid = $3 AND (subject IS NULL OR subject = $2) OR subject = $2 AND (sid IS NULL OR $3::bytea IS NULL))
      AND received_at >= $5
      AND ($4::timestamptz IS NULL OR issued_at >= $4)
);

-- name: forget
-- A bounded number each round.
DELETE FROM catalyst.provider_logouts
WHERE (provider_id, jti) IN (SELECT provider_id, jti FROM catalyst.provider_logouts WHERE kept_until < now()
                             ORDER BY kept_until LIMIT 10000);
