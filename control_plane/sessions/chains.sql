-- name: admit
-- Held until the session is committed: a revocation of all the profile's sessions comes wholly before it or wholly after it.
SELECT p.status AS profile_status, o.status AS org_status,
       EXISTS (SELECT FROM catalyst.memberships m WHERE m.profile_id = p.id AND m.org_id = o.id) AS member,
       l.idle, l.lifetime
FROM catalyst.profiles p
JOIN catalyst.orgs o ON o.id = $2
CROSS JOIN LATERAL (
    SELECT min(also.session_idle_seconds) AS idle, min(also.session_lifetime_seconds) AS lifetime
    FROM catalyst.memberships m JOIN catalyst.orgs also ON also.id = m.org_id
    WHERE m.profile_id = p.id AND also.status = 'active') AS l
WHERE p.id = $1
FOR SHARE OF p;

-- name: insert_login
-- The moment is read behind the lock on the profile: no token is older than the revocation that came before it.
WITH moment AS MATERIALIZED (
    SELECT clock_timestamp() AS at
), made AS (
    INSERT INTO catalyst.sessions (
        id, org_id, profile_id, amr, acr, auth_time, provider_id, issuer, subject, upstream_sid, id_token_wrapped, device, address,
        created_at, last_seen_at, token_expires_at, idle_ends_at, absolute_ends_at)
    SELECT $1, $2, $3, $4, $5, LEAST($6, at), $7, $8, $9, $10, $11, $12, $13::text::inet,
           at, at, date_trunc('second', at + make_interval(secs => LEAST($14::float8, $16::float8))), at + make_interval(secs => $15),
           at + make_interval(secs => $16)
    FROM moment
    RETURNING id, profile_id AS profile, org_id AS org, provider_id AS provider, amr, acr, auth_time, token_expires_at, created_at,
              absolute_ends_at AS ends_at
), chain AS (
    INSERT INTO catalyst.refresh_chains (id, session_id, host, current_sha256, racing_until)
    SELECT $17, id, '', $18, created_at + make_interval(secs => $19) FROM made
)
SELECT * FROM made;

-- name: lock_session
SELECT id FROM catalyst.sessions WHERE id = $1 FOR NO KEY UPDATE;

-- name: lock_chain
-- Whatever is done to a chain is done under its session's lock, as whatever ends the session.
SELECT id
FROM catalyst.sessions
WHERE id = (SELECT session_id FROM catalyst.refresh_chains WHERE id = $1 AND host = $2)
FOR NO KEY UPDATE;

-- name: find
-- A session ($1, or that of the chain) with its chain ($2, $3). A session is good in every org of its profile: their shortest limits
-- hold. `racing`: this transaction began soon enough after the last rotation to be answered with what that gave out. `due`: whoever
-- was racing has been answered, since nobody waits longer for a lock than those ten seconds (db/pool.py).
SELECT s.id, s.profile_id AS profile, s.org_id AS org, s.provider_id AS provider, s.amr, s.acr, s.auth_time, s.token_expires_at,
       c.id AS chain, c.current_sha256, c.previous_sha256, c.successor_sealed,
       s.revoked_at IS NOT NULL OR COALESCE(p.sessions_not_before > s.created_at, false) AS ended, s.end_cause,
       p.status = 'active' AND COALESCE(l.member, false) AS active,
       LEAST(s.absolute_ends_at, s.created_at + make_interval(secs => l.lifetime)) AS ends_at,
       LEAST(s.idle_ends_at, s.last_seen_at + make_interval(secs => l.idle)) AS idle_ends_at,
       l.idle,
       now() < c.racing_until AS racing,
       clock_timestamp() > c.racing_until + interval '10 seconds' AS due,
       clock_timestamp() AS at
FROM catalyst.sessions s
JOIN catalyst.profiles p ON p.id = s.profile_id
LEFT JOIN catalyst.refresh_chains c ON c.id = $2 AND c.session_id = s.id AND c.host = $3
CROSS JOIN LATERAL (
    SELECT min(o.session_idle_seconds) AS idle, min(o.session_lifetime_seconds) AS lifetime, bool_or(o.id = s.org_id) AS member
    FROM catalyst.memberships m JOIN catalyst.orgs o ON o.id = m.org_id
    WHERE m.profile_id = s.profile_id AND o.status = 'active') AS l
WHERE s.id = COALESCE($1, (SELECT session_id FROM catalyst.refresh_chains WHERE id = $2 AND host = $3))
  AND s.absolute_ends_at IS NOT NULL;

-- name: is_spent
SELECT EXISTS (SELECT FROM catalyst.spent_refresh_tokens WHERE chain_id = $1 AND sha256 = $2);

-- name: rotate
WITH spent AS (
    INSERT INTO catalyst.spent_refresh_tokens (chain_id, sha256, spent_at) VALUES ($1, $2, clock_timestamp())
), turned AS (
    UPDATE catalyst.refresh_chains
    SET current_sha256 = $3, previous_sha256 = $2, successor_sealed = $4, generation = generation + 1,
        racing_until = clock_timestamp() + make_interval(secs => $10)
    WHERE id = $1
)
UPDATE catalyst.sessions
SET token_expires_at = GREATEST(token_expires_at, $6), idle_ends_at = $7, last_seen_at = $8,
    address = COALESCE($9::text::inet, address)
WHERE id = $5;

-- name: see
UPDATE catalyst.sessions
SET token_expires_at = GREATEST(token_expires_at, $2), idle_ends_at = $3, last_seen_at = $4,
    address = COALESCE($5::text::inet, address)
WHERE id = $1;

-- name: open_chain
-- A browser that comes for a new chain has lost the old one, unless two of its tabs came at once.
WITH lost AS (
    DELETE FROM catalyst.refresh_chains
    WHERE session_id = $2 AND host = $3 AND racing_until < now()
)
INSERT INTO catalyst.refresh_chains (id, session_id, host, current_sha256, racing_until)
VALUES ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5));
