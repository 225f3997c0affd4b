-- Webhooks: who hears of what, and what is still to be told.
--
-- An event waits in "outbox_events" from the transaction of its change. A worker fans it out, one at a time and in their order: what
-- somebody subscribed to goes to "webhook_events", with a row in "webhook_deliveries" for each endpoint; what nobody did is gone. An
-- endpoint's queue has one row in "webhook_queues". A worker leases whole queues, not deliveries: order, rate and the state of an
-- endpoint are then matters of one process, and an endpoint that hangs holds up nobody but itself.

-- Nobody could subscribe until now, so nobody is told of what was before. (It stands in the audit log.) However many there are, nothing
-- is written anew for them.
TRUNCATE outbox_events;

-- The order in which events were written: the events of one thing are written under its row's lock, so in the order of their commits.
ALTER TABLE outbox_events ADD COLUMN position bigint GENERATED ALWAYS AS IDENTITY;
CREATE UNIQUE INDEX outbox_events_position ON outbox_events (position);

-- Endpoints --------------------------------------------------------------------------------------------------------------------------

CREATE TABLE webhooks (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    -- Whose events it hears of; NULL: the platform's, it hears of everybody's.
    org_id uuid REFERENCES orgs ON DELETE CASCADE,
    url text NOT NULL CHECK (length(url) BETWEEN 1 AND 2000),
    description text NOT NULL DEFAULT '' CHECK (length(description) <= 500),
    -- "*", "profile.*" or "profile.updated".
    events text[] NOT NULL CHECK (cardinality(events) BETWEEN 1 AND 100),
    -- paused by whoever administers it; disabled by a worker, which says why.
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused', 'disabled')),
    disabled_reason text CHECK (disabled_reason IN ('failing', 'gone')),
    status_at timestamptz NOT NULL DEFAULT now(),
    payload text NOT NULL DEFAULT 'full' CHECK (payload IN ('full', 'thin')),
    -- The events of one thing one after the other.
    ordered boolean NOT NULL DEFAULT false,
    signatures text[] NOT NULL DEFAULT '{v1}' CHECK (signatures <@ '{v1,v1a}') CHECK (cardinality(signatures) > 0),
    -- Seconds after each failure until the next attempt; one attempt more than it has elements.
    retry_schedule int[] NOT NULL CHECK (cardinality(retry_schedule) <= 20)
        CHECK (1 <= ALL (retry_schedule)) CHECK (604800 >= ALL (retry_schedule)),
    timeout_seconds int NOT NULL DEFAULT 15 CHECK (timeout_seconds BETWEEN 1 AND 30),
    -- Attempts a second, at most; NULL: as many as it takes.
    rate_limit int CHECK (rate_limit BETWEEN 1 AND 10000),
    max_in_flight int NOT NULL DEFAULT 10 CHECK (max_in_flight BETWEEN 1 AND 100),
    -- PEM: what it shows when it is asked for a client certificate, and whom it believes instead of the public authorities.
    client_certificate text CHECK (length(client_certificate) <= 50000),
    ca_bundle text CHECK (length(ca_bundle) <= 200000),
    header_names text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((status = 'disabled') = (disabled_reason IS NOT NULL))
);
CREATE INDEX webhooks_org ON webhooks (org_id, id);

-- What signs, what is sent along, what shows who we are: sealed. A signing secret that was replaced goes on signing beside the new one
-- until "valid_until".
CREATE TABLE webhook_secrets (
    id uuid PRIMARY KEY,
    webhook_id uuid NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('v1', 'v1a', 'headers', 'client_key')),
    wrapped bytea NOT NULL,
    -- whpk_...; of v1a.
    public_key text CHECK ((public_key IS NOT NULL) = (kind = 'v1a')),
    created_at timestamptz NOT NULL DEFAULT now(),
    valid_until timestamptz CHECK (isfinite(valid_until))
);
CREATE UNIQUE INDEX webhook_secrets_current ON webhook_secrets (webhook_id, kind) WHERE valid_until IS NULL;
CREATE INDEX webhook_secrets_webhook ON webhook_secrets (webhook_id);

-- Workers and queues -----------------------------------------------------------------------------------------------------------------

-- Each running worker. Whoever is later than "until" is taken for dead, its row removed, and its queues are free.
CREATE TABLE workers (
    id uuid PRIMARY KEY,
    version text NOT NULL CHECK (length(version) <= 100),
    started_at timestamptz NOT NULL DEFAULT now(),
    until timestamptz NOT NULL
);

-- One row an endpoint, made with it. Whoever takes several takes them in the order of their ids.
CREATE TABLE webhook_queues (
    webhook_id uuid PRIMARY KEY REFERENCES webhooks ON DELETE CASCADE,
    -- When the next delivery is due; NULL: nothing waits. Never later than the truth.
    due_at timestamptz,
    -- Nothing is sent before: the circuit is open, the receiver asked for patience, the rate is used up.
    held_until timestamptz,
    worker_id uuid REFERENCES workers ON DELETE SET NULL,
    -- A higher one each time it is leased: who writes with an old number has lost the lease meanwhile.
    turn bigint NOT NULL DEFAULT 0,
    pending bigint NOT NULL DEFAULT 0,
    -- Of these, those that have failed at least once.
    retrying bigint NOT NULL DEFAULT 0,
    dead bigint NOT NULL DEFAULT 0,
    -- Failures since the last success, and since when.
    failures int NOT NULL DEFAULT 0,
    failing_since timestamptz,
    -- How many attempts may be in flight while the receiver is overloaded; NULL: as many as the endpoint's configuration says.
    in_flight int CHECK (in_flight BETWEEN 1 AND 100)
) WITH (fillfactor = 50);
CREATE INDEX webhook_queues_due ON webhook_queues (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX webhook_queues_worker ON webhook_queues (worker_id) WHERE worker_id IS NOT NULL;

-- What is told ---------------------------------------------------------------------------------------------------------------------

-- Events that some endpoint subscribed to, kept for retries and replays. "id" is what receivers know as msg_<id without dashes>.
CREATE TABLE webhook_events (
    position bigint PRIMARY KEY,
    id uuid NOT NULL UNIQUE,
    revision bigint,
    org_id uuid,
    type text NOT NULL,
    data jsonb NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX webhook_events_created ON webhook_events (created_at);

-- No foreign keys: there are very many, they are written in bulk, and what is left of an endpoint or an event that is gone is swept up.
CREATE TABLE webhook_deliveries (
    webhook_id uuid NOT NULL,
    position bigint NOT NULL,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'dead')),
    -- Attempts so far on the schedule; a replay begins it anew.
    attempts smallint NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    -- What the event is about, where the endpoint wants the events of one thing in their order.
    resource text,
    replay_id uuid,
    PRIMARY KEY (webhook_id, position),
    CHECK ((status = 'pending') = (next_attempt_at IS NOT NULL))
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, next_attempt_at, position) WHERE status = 'pending';
-- "next_attempt_at IS NOT NULL" rather than "pending", which is the same: see queue.sql.
CREATE INDEX webhook_deliveries_resource ON webhook_deliveries (webhook_id, resource, position)
    WHERE next_attempt_at IS NOT NULL AND resource IS NOT NULL;
CREATE INDEX webhook_deliveries_dead ON webhook_deliveries (webhook_id, position) WHERE status = 'dead';
CREATE INDEX webhook_deliveries_replay ON webhook_deliveries (replay_id) WHERE replay_id IS NOT NULL;

-- Each attempt. "error": why there is no status, or why a status is none that counts; "answer": how the body begins.
CREATE TABLE webhook_attempts (
    webhook_id uuid NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    position bigint NOT NULL,
    at timestamptz NOT NULL,
    milliseconds real NOT NULL,
    status_code smallint,
    error text CHECK (length(error) <= 100),
    answer text CHECK (length(answer) <= 2000),
    PRIMARY KEY (webhook_id, id)
);
CREATE INDEX webhook_attempts_delivery ON webhook_attempts (webhook_id, position);
CREATE INDEX webhook_attempts_failed ON webhook_attempts (webhook_id, id) WHERE error IS NOT NULL;

-- What somebody asked to be sent again; a worker does it, some at a time, from "reached" on.
CREATE TABLE webhook_replays (
    id uuid PRIMARY KEY,
    webhook_id uuid NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    -- dead: dead letters; undelivered: these, and what it subscribed to and never was given; all: what was delivered as well.
    which text NOT NULL CHECK (which IN ('dead', 'undelivered', 'all')),
    -- Events written in this time; or the one event.
    since timestamptz,
    until timestamptz,
    event_id uuid,
    total bigint NOT NULL DEFAULT 0,
    queued bigint NOT NULL DEFAULT 0,
    reached bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE INDEX webhook_replays_webhook ON webhook_replays (webhook_id, created_at);
CREATE INDEX webhook_replays_open ON webhook_replays (created_at) WHERE finished_at IS NULL;

-- Doorbells ------------------------------------------------------------------------------------------------------------------------
-- They wake workers, and say where to look: in the queues alone, or (without a word) also in the outbox and at replays. Whoever can
-- connect can ring them, and then a worker looks in vain.

CREATE FUNCTION ring_workers() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = catalyst, pg_temp AS $$
BEGIN
    -- Where nobody listens no commit waits for another's doorbell.
    IF EXISTS (SELECT FROM webhooks) THEN
        PERFORM pg_notify('catalyst_webhooks', '');
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER ring_workers AFTER INSERT ON outbox_events FOR EACH STATEMENT EXECUTE FUNCTION ring_workers();
CREATE TRIGGER ring_workers AFTER INSERT ON webhook_replays FOR EACH STATEMENT EXECUTE FUNCTION ring_workers();

-- An endpoint has a queue. One that is active again, or has moved, is tried at once, whatever was thought of it before.
CREATE FUNCTION keep_webhook_queue() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = catalyst, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO webhook_queues (webhook_id) VALUES (NEW.id);
    ELSE
        UPDATE webhook_queues
        SET held_until = NULL, failures = 0, failing_since = NULL, in_flight = NULL,
            due_at = CASE WHEN pending > 0 THEN LEAST(due_at, now()) END
        WHERE webhook_id = NEW.id;
        PERFORM pg_notify('catalyst_webhooks', 'queues');
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER make_queue AFTER INSERT ON webhooks FOR EACH ROW EXECUTE FUNCTION keep_webhook_queue();
CREATE TRIGGER begin_anew AFTER UPDATE OF status, url ON webhooks
    FOR EACH ROW WHEN (NEW.status = 'active' AND (OLD.status <> 'active' OR OLD.url <> NEW.url)) EXECUTE FUNCTION keep_webhook_queue();

-- Fanning out ------------------------------------------------------------------------------------------------------------------------

-- Which endpoints an event is for: those of the platform, those of its org, and for what happens to a profile, which is in no org, those
-- of the orgs that it was a member of then and still is. An endpoint hears of nothing from before it was there.
CREATE FUNCTION subscribed(org uuid, event text, resource text, at timestamptz) RETURNS SETOF webhooks
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT w.*
    FROM (SELECT p.* FROM webhooks AS p WHERE p.org_id IS NULL
          UNION ALL
          SELECT o.* FROM webhooks AS o WHERE o.org_id = org
          UNION ALL
          SELECT m.* FROM webhooks AS m
          WHERE org IS NULL AND split_part(event, '.', 1) = 'profile'
            AND m.org_id IN (SELECT s.org_id FROM memberships AS s
                             WHERE s.created_at <= at AND s.profile_id = CASE WHEN resource ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN resource::uuid END)) AS w
    WHERE w.events && ARRAY['*', split_part(event, '.', 1) || '.*', event] AND w.created_at <= at;
END;

-- Which of some events one endpoint subscribed to: a replay gives it those that it was never given.
CREATE FUNCTION subscribed_to(webhook uuid, positions bigint[]) RETURNS SETOF bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = catalyst, pg_temp
BEGIN ATOMIC
    SELECT e.position
    FROM webhook_events AS e CROSS JOIN LATERAL subscribed(e.org_id, e.type, e.data ->> 'id', e.created_at) AS w
    WHERE e.position = ANY (positions) AND w.id = webhook;
END;

-- Whoever fans out holds its row. No advisory lock: every role that can connect could take it, and keep everybody's events waiting.
CREATE TABLE fan_out_turn (one boolean PRIMARY KEY DEFAULT true CHECK (one));
INSERT INTO fan_out_turn DEFAULT VALUES;

-- Take at most so many events from the outbox, in their order, and queue them. How many were taken; NULL: another worker does it now.
CREATE FUNCTION fan_out(most int) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = catalyst, pg_temp AS $$
DECLARE
    taken int;
BEGIN
    IF NOT EXISTS (SELECT FROM outbox_events) THEN
        RETURN 0;
    END IF;
    PERFORM FROM fan_out_turn FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    WITH first AS MATERIALIZED (
        SELECT position FROM outbox_events ORDER BY position LIMIT most
    ), event AS MATERIALIZED (
        -- From one position to another, rather than by a list: however few the planner thinks there are, it takes no longer.
        DELETE FROM outbox_events
        WHERE position BETWEEN (SELECT min(f.position) FROM first AS f) AND (SELECT max(f.position) FROM first AS f)
        RETURNING *
    ), matched AS MATERIALIZED (
        SELECT e.position, w.id AS webhook_id, w.status,
               CASE WHEN w.ordered THEN left(split_part(e.type, '.', 1) || ' ' || (e.data ->> 'id'), 300) END AS resource
        FROM event AS e CROSS JOIN LATERAL subscribed(e.org_id, e.type, e.data ->> 'id', e.created_at) AS w
    ), heard AS MATERIALIZED (
        SELECT DISTINCT m.position FROM matched AS m
    ), kept AS (
        INSERT INTO webhook_events (position, id, revision, org_id, type, data, created_at)
        SELECT e.position, e.id, e.revision, e.org_id, e.type, e.data, e.created_at
        FROM event AS e
        WHERE e.position IN (SELECT h.position FROM heard AS h)
        ORDER BY e.position
    ), queued AS (
        INSERT INTO webhook_deliveries (webhook_id, position, next_attempt_at, resource)
        SELECT m.webhook_id, m.position, now(), m.resource
        FROM matched AS m
        WHERE m.status <> 'disabled'
        ORDER BY m.webhook_id, m.position
    ), counted AS (
        SELECT m.webhook_id, count(*) AS deliveries FROM matched AS m WHERE m.status <> 'disabled' GROUP BY m.webhook_id
    ), locked AS MATERIALIZED (
        SELECT q.webhook_id FROM webhook_queues AS q
        WHERE q.webhook_id IN (SELECT c.webhook_id FROM counted AS c)
        ORDER BY q.webhook_id
        FOR UPDATE
    ), told AS (
        UPDATE webhook_queues AS q
        SET pending = q.pending + c.deliveries, due_at = LEAST(COALESCE(q.due_at, now()), now())
        FROM counted AS c JOIN locked AS l USING (webhook_id)
        WHERE q.webhook_id = c.webhook_id
        RETURNING 1
    )
    SELECT count(*) INTO taken FROM event;
    IF taken > 0 THEN
        PERFORM pg_notify('catalyst_webhooks', 'queues');
    END IF;
    RETURN taken;
END $$;

-- Give queues back: those of which these are still the turns. "rests": seconds in which nothing is sent there, or NULL. When the next delivery is
-- due is asked once the queues' rows are held: what was fanned out until then is seen, whatever comes later finds the row as it is left
-- here.
CREATE FUNCTION end_turns(webhooks uuid[], turns bigint[], rests double precision[]) RETURNS void
LANGUAGE plpgsql SET search_path = catalyst, pg_temp AS $$
DECLARE
    is_due boolean;
BEGIN
    PERFORM FROM webhook_queues AS q JOIN unnest(webhooks, turns) AS t (webhook_id, turn) USING (webhook_id, turn)
    ORDER BY q.webhook_id
    FOR UPDATE OF q;
    WITH ended AS (
        UPDATE webhook_queues AS q
        SET worker_id = NULL, held_until = GREATEST(q.held_until, clock_timestamp() + make_interval(secs => t.rest)),
            due_at = (SELECT min(d.next_attempt_at) FROM webhook_deliveries AS d
                      WHERE d.webhook_id = q.webhook_id AND d.status = 'pending')
        FROM unnest(webhooks, turns, rests) AS t (webhook_id, turn, rest)
        WHERE q.webhook_id = t.webhook_id AND q.turn = t.turn
        RETURNING q.due_at, q.held_until
    )
    SELECT COALESCE(bool_or(e.due_at <= now() AND (e.held_until IS NULL OR e.held_until <= now())), false) INTO is_due FROM ended AS e;
    IF is_due THEN
        PERFORM pg_notify('catalyst_webhooks', 'queues');
    END IF;
END $$;

-- Take an endpoint out of use, and tell: audit log, outbox, all in this transaction. False where it was not active, or somebody
-- changed it since "version": what it is now has not failed yet.
CREATE FUNCTION disable_webhook(webhook uuid, reason text, version timestamptz DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = catalyst, pg_temp AS $$
DECLARE
    owner uuid;
    facts jsonb := jsonb_build_object('status', 'disabled', 'disabled_reason', reason);
BEGIN
    UPDATE webhooks SET status = 'disabled', disabled_reason = reason, status_at = now(), updated_at = now()
    WHERE id = webhook AND status = 'active' AND (version IS NULL OR updated_at = version)
    RETURNING org_id INTO owner;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO audit_pending (org_id, type, actor_kind, actor_id, resource_id, before, after)
    VALUES (owner, 'webhook.disabled', 'system', 'worker', webhook, '{"status": "active"}', facts);
    INSERT INTO outbox_events (org_id, type, data)
    VALUES (owner, 'webhook.disabled',
            jsonb_build_object('id', webhook, 'org', owner, 'before', '{"status": "active"}'::jsonb, 'after', facts));
    RETURN true;
END $$;

-- Remove at most so many events that nobody will ever be told of: too old, or from before anybody subscribed. For where no worker
-- runs. How many were removed.
CREATE FUNCTION forget_outbox(keep_seconds double precision, most int) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = catalyst, pg_temp
BEGIN ATOMIC
    WITH gone AS (
        DELETE FROM outbox_events
        WHERE position IN (
            SELECT e.position FROM outbox_events AS e
            WHERE e.created_at < now() - make_interval(secs => keep_seconds)
               OR (e.created_at < now() - interval '1 hour' AND NOT EXISTS (SELECT FROM webhooks AS w WHERE w.created_at <= e.created_at))
            ORDER BY e.created_at
            LIMIT most
        )
        RETURNING 1
    )
    SELECT count(*) FROM gone;
END;

-- Who may what -----------------------------------------------------------------------------------------------------------------------

REVOKE ALL ON webhooks, webhook_secrets, workers, webhook_queues, webhook_events, webhook_deliveries, webhook_attempts, webhook_replays,
    fan_out_turn
    FROM PUBLIC;
REVOKE ALL ON FUNCTION ring_workers(), keep_webhook_queue(), subscribed(uuid, text, text, timestamptz), subscribed_to(uuid, bigint[]),
    fan_out(int), end_turns(uuid[], bigint[], double precision[]), disable_webhook(uuid, text, timestamptz),
    forget_outbox(double precision, int)
    FROM PUBLIC;

GRANT SELECT, INSERT, UPDATE, DELETE ON webhooks, webhook_secrets TO catalyst_control;
GRANT SELECT ON workers, webhook_queues, webhook_events, webhook_deliveries, webhook_attempts, webhook_replays TO catalyst_control;
GRANT INSERT (id, webhook_id, which, since, until, event_id) ON webhook_replays TO catalyst_control;
GRANT EXECUTE ON FUNCTION forget_outbox(double precision, int) TO catalyst_control;

GRANT SELECT ON webhooks, webhook_secrets TO catalyst_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON workers, webhook_deliveries TO catalyst_worker;
GRANT SELECT, INSERT, DELETE ON webhook_attempts TO catalyst_worker;
GRANT SELECT, UPDATE ON webhook_queues TO catalyst_worker;
GRANT SELECT, UPDATE, DELETE ON webhook_replays TO catalyst_worker;
GRANT SELECT, DELETE ON webhook_events TO catalyst_worker;
GRANT EXECUTE ON FUNCTION subscribed_to(uuid, bigint[]), fan_out(int), end_turns(uuid[], bigint[], double precision[]),
    disable_webhook(uuid, text, timestamptz) TO catalyst_worker;

DO $$
DECLARE
    target text;
BEGIN
    FOREACH target IN ARRAY ARRAY['webhooks', 'webhook_events'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', target);
        EXECUTE format('CREATE POLICY worker ON %I TO catalyst_worker USING (true)', target);
    END LOOP;
    CREATE POLICY control ON webhooks TO catalyst_control
        USING ((SELECT in_every_org()) OR org_id = ANY ((SELECT scoped_orgs())::uuid[]));
    FOREACH target IN ARRAY ARRAY['webhook_secrets', 'webhook_queues', 'webhook_deliveries', 'webhook_attempts', 'webhook_replays'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', target);
        EXECUTE format('CREATE POLICY worker ON %I TO catalyst_worker USING (true)', target);
        EXECUTE format('CREATE POLICY control ON %I TO catalyst_control
                            USING ((SELECT in_every_org()) OR webhook_id IN (SELECT w.id FROM webhooks AS w))', target);
    END LOOP;
    -- An event is seen by whom it was for.
    CREATE POLICY control ON webhook_events TO catalyst_control
        USING ((SELECT in_every_org()) OR org_id = ANY ((SELECT scoped_orgs())::uuid[])
               OR (org_id IS NULL AND EXISTS (SELECT FROM webhook_deliveries AS d
                                              WHERE d.position = webhook_events.position
                                                AND d.webhook_id IN (SELECT w.id FROM webhooks AS w))));
END $$;
