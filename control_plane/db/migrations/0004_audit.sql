-- The audit log that nobody can quietly rewrite: chained by hash, in monthly partitions, vouched for by signed checkpoints.
--
-- Each event has, from its commit on, a number in its chain (the chain of its org; events without an org are the platform's), the
-- hash of the event before, and its own: SHA-256 of that and of its text. Whoever changes an event changes its hash and so
-- every later one; what a checkpoint kept elsewhere says of them is then no longer true. See control_plane/audit/chain.py.
--
-- Events are written to "audit_pending"; at commit, when the revision is known, they go to "audit_events" with their place in the
-- chain, and are never touched again. "audit_chains" holds the end of each chain. A transaction takes the rows of its chains last,
-- after the row of "head" and in the order of their orgs, so that no two wait for each other.

-- The events, by month -----------------------------------------------------------------------------------------------------------

ALTER TABLE audit_events RENAME TO audit_events_before;
ALTER TABLE audit_events_before RENAME CONSTRAINT audit_events_pkey TO audit_events_before_pkey;
DROP INDEX audit_events_resource;

CREATE SEQUENCE audit_event_ids;

CREATE TABLE audit_events (
    -- Given at commit, with the place in the chain, in the order in which the transaction wrote them.
    id bigint NOT NULL,
    -- Never before the event before it in its chain, while the clock goes right: whole months can be dropped.
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    xid xid8 NOT NULL,
    -- NULL where no sidecar had to hear of it.
    revision bigint,
    -- NULL: the event belongs to the platform and not to one org. No foreign key: events outlive what they tell of.
    org_id uuid,
    -- "org.created", "grant.deleted": <resource>.<past tense>.
    type text NOT NULL,
    actor_kind text NOT NULL,
    actor_id text NOT NULL,
    -- The person or service behind a session or an API key.
    actor_profile uuid,
    resource_id text NOT NULL,
    before jsonb,
    after jsonb,
    request_id text,
    -- Personal data: forget_addresses() can take them out again. The chain holds only what they hash to.
    address inet,
    address_salt bytea,
    address_sha256 bytea,
    -- The place in the chain.
    seq bigint NOT NULL,
    previous bytea NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
ALTER SEQUENCE audit_event_ids OWNED BY audit_events.id;

-- The order of ids is the order of the chain.
CREATE INDEX audit_events_chain ON audit_events (org_id NULLS FIRST, id);
CREATE INDEX audit_events_resource ON audit_events (resource_id, id);
CREATE INDEX audit_events_actor ON audit_events (actor_id, id);
CREATE INDEX audit_events_behind_key ON audit_events (actor_profile, id) WHERE actor_kind = 'api_key';
CREATE INDEX audit_events_request ON audit_events (request_id) WHERE request_id IS NOT NULL;

-- Events of transactions that have not ended; empty whenever nobody writes, so a crash may empty it.
CREATE UNLOGGED TABLE audit_pending (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    ordinal bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    org_id uuid,
    type text NOT NULL CHECK (type ~ '^[a-z_]+\.[a-z_]+$'),
    actor_kind text NOT NULL CHECK (actor_kind IN ('profile', 'api_key', 'system', 'operator')),
    actor_id text NOT NULL,
    actor_profile uuid,
    resource_id text NOT NULL,
    before jsonb,
    after jsonb,
    request_id text,
    address inet,
    PRIMARY KEY (xid, ordinal)
) WITH (autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);

-- Their transactions.
CREATE UNLOGGED TABLE audit_transactions (xid xid8 PRIMARY KEY)
    WITH (autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);

-- What an event hashes: all of it but the address, its salt, and the hashes themselves. PostgreSQL's own text of jsonb, keys by
-- length and then by bytes; control_plane/audit/chain.py writes the same.
CREATE FUNCTION audit_text(event audit_events) RETURNS text
LANGUAGE sql STABLE
RETURN jsonb_build_object(
    'id', event.id,
    'at', to_char(event.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'transaction', event.xid::text,
    'revision', event.revision,
    'org', event.org_id,
    'seq', event.seq,
    'type', event.type,
    'actor', jsonb_build_object('kind', event.actor_kind, 'id', event.actor_id, 'profile', event.actor_profile),
    'resource', event.resource_id,
    'before', event.before,
    'after', event.after,
    'request_id', event.request_id,
    'address_sha256', encode(event.address_sha256, 'hex'))::text;

-- The hashes of a chain, event by event: SHA-256 of the hash before (the first argument, for the first) and the event's text.
CREATE FUNCTION audit_link(before bytea, first bytea, content text) RETURNS bytea
LANGUAGE sql IMMUTABLE
RETURN sha256(COALESCE(before, first) || convert_to(content, 'UTF8'));
CREATE AGGREGATE audit_links(first bytea, content text) (SFUNC = audit_link, STYPE = bytea);

-- An event as one line of an export: what it hashes, and what it does not. An address in the form of inet's own output.
CREATE FUNCTION audit_line(event audit_events) RETURNS text
LANGUAGE sql STABLE
RETURN (audit_text(event)::jsonb || jsonb_build_object(
    'address', NULLIF(format('%s', event.address), ''),
    'address_salt', encode(event.address_salt, 'hex'),
    'previous', encode(event.previous, 'hex'),
    'hash', encode(event.hash, 'hex')))::text;

-- What stands for an address in the chain.
CREATE FUNCTION audit_commitment(salt bytea, address inet) RETURNS bytea
LANGUAGE sql STABLE
RETURN sha256(salt || convert_to(format('%s', address), 'UTF8'));

-- The end of each chain, and how much of its beginning retention has dropped.
CREATE TABLE audit_chains (
    org_id uuid,
    chain uuid PRIMARY KEY GENERATED ALWAYS AS (COALESCE(org_id, '00000000-0000-0000-0000-000000000000')) STORED,
    seq bigint NOT NULL DEFAULT 0,
    hash bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    at timestamptz NOT NULL DEFAULT '-infinity',
    dropped_seq bigint NOT NULL DEFAULT 0,
    dropped_hash bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex')
) WITH (fillfactor = 50);

-- Partitions ---------------------------------------------------------------------------------------------------------------------

CREATE TABLE audit_partitions (
    name name PRIMARY KEY,
    first timestamptz NOT NULL UNIQUE,
    -- Not included.
    until timestamptz NOT NULL CHECK (until > first)
);

-- The beginning of the month of a moment, or of one some months on; months are those of UTC.
CREATE FUNCTION audit_month(moment timestamptz, later int DEFAULT 0) RETURNS timestamptz
LANGUAGE sql STABLE
RETURN (date_trunc('month', moment AT TIME ZONE 'UTC') + make_interval(months => later)) AT TIME ZONE 'UTC';

-- Nothing ever fails to be recorded for want of a partition.
CREATE TABLE audit_events_rest PARTITION OF audit_events DEFAULT;

-- Attach a table, made before or now, as the partition of these months. TRUNCATE fires no trigger of the table above: each has its own.
-- To attach takes a lock that neither readers nor writers of the log wait for; to make one with PARTITION OF would take their place.
CREATE FUNCTION attach_audit_partition(part name, first timestamptz, until timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = catalyst, pg_temp AS $$
BEGIN
    IF to_regclass(quote_ident(part)) IS NULL THEN
        EXECUTE format('CREATE TABLE %I (LIKE audit_events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part);
    END IF;
    EXECUTE format('ALTER TABLE audit_events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', part, first, until);
    EXECUTE format('CREATE OR REPLACE TRIGGER refuse_truncate BEFORE TRUNCATE ON %I EXECUTE FUNCTION refuse_truncate()', part);
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER refuse_truncate', part);
    INSERT INTO audit_partitions VALUES (part, attach_audit_partition.first, attach_audit_partition.until);
END $$;

-- Events that came when there was no partition for them (a control plane that slept for months) are in "rest": it becomes the
-- partition of their months, where no other lies between, and a new one takes its place.
CREATE FUNCTION turn_over_audit_rest() RETURNS void
LANGUAGE plpgsql SET search_path = catalyst, pg_temp AS $$
DECLARE
    lower timestamptz;
    upper timestamptz;
    part name;
BEGIN
    SELECT audit_month(min(at)), audit_month(max(at), 1), 'audit_events_' || to_char(min(at) AT TIME ZONE 'UTC', 'YYYY_MM')
    INTO lower, upper, part FROM audit_events_rest;
    IF lower IS NULL OR EXISTS (SELECT FROM audit_partitions AS p WHERE p.first < upper AND p.until > lower) THEN
        RETURN;
    END IF;
    ALTER TABLE audit_events DETACH PARTITION audit_events_rest;
    EXECUTE format('ALTER TABLE audit_events_rest RENAME TO %I', part);
    PERFORM attach_audit_partition(part, lower, upper);
    CREATE TABLE audit_events_rest PARTITION OF audit_events DEFAULT;
    CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON audit_events_rest EXECUTE FUNCTION refuse_truncate();
    ALTER TABLE audit_events_rest ENABLE ALWAYS TRIGGER refuse_truncate;
END $$;

-- Make what is missing of the partitions from this month on. Two at once: the second waits, and finds them made. Rather than have
-- others wait behind it, it gives up soon: there are months to try again.
CREATE FUNCTION make_audit_partitions(months int DEFAULT 3) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = catalyst, pg_temp AS $$
DECLARE
    lower timestamptz;
    upper timestamptz;
    made int := 0;
BEGIN
    PERFORM pg_advisory_xact_lock('catalyst.audit_partitions'::regclass::oid::bigint);
    PERFORM set_config('lock_timeout', '2s', true);
    IF EXISTS (SELECT FROM audit_events_rest) THEN
        PERFORM turn_over_audit_rest();
    END IF;
    FOR n IN 0 .. LEAST(months, 24) LOOP
        lower := audit_month(now(), n);
        upper := audit_month(now(), n + 1);
        IF NOT EXISTS (SELECT FROM audit_partitions AS p WHERE p.first < upper AND p.until > lower)
           AND NOT EXISTS (SELECT FROM audit_events_rest WHERE at >= lower AND at < upper) THEN
            PERFORM attach_audit_partition(('audit_events_' || to_char(lower AT TIME ZONE 'UTC', 'YYYY_MM'))::name, lower, upper);
            made := made + 1;
        END IF;
    END LOOP;
    RETURN made;
END $$;

-- At commit ----------------------------------------------------------------------------------------------------------------------

-- Give this transaction's events their places. Called with the revision of the transaction, which the events hold and hash. The ends
-- of its chains are held, in the order of their orgs, until the transaction has ended. Times do not run back within a chain,
-- unless the clock was put right in between.
CREATE FUNCTION chain_audit_events(transaction xid8, stamp bigint) RETURNS void
LANGUAGE plpgsql SET search_path = catalyst, pg_temp AS $$
BEGIN
    INSERT INTO audit_chains AS c (org_id)
    SELECT DISTINCT org_id FROM audit_pending WHERE xid = transaction ORDER BY org_id NULLS FIRST
    ON CONFLICT (chain) DO UPDATE SET seq = c.seq;

    WITH placed AS MATERIALIZED (
        SELECT p.*, c.hash AS first, c.seq + row_number() OVER events AS seq,
               CASE WHEN c.at <= clock_timestamp() THEN GREATEST(c.at, max(p.at) OVER events) ELSE p.at END AS moment,
               CASE WHEN p.address IS NOT NULL THEN uuid_send(gen_random_uuid()) END AS salt
        FROM audit_pending AS p
        JOIN audit_chains AS c ON c.chain = COALESCE(p.org_id, '00000000-0000-0000-0000-000000000000')
        WHERE p.xid = transaction
        WINDOW events AS (PARTITION BY p.org_id ORDER BY p.ordinal)
    ), whole AS MATERIALIZED (
        SELECT *, nextval('audit_event_ids') AS id, audit_commitment(salt, address) AS commitment FROM placed ORDER BY ordinal
    ), linked AS MATERIALIZED (
        SELECT *, audit_links(first, audit_text(ROW(id, moment, xid, stamp, org_id, type, actor_kind, actor_id, actor_profile, resource_id,
                                                    before, after, request_id, address, salt, commitment, seq, ''::bytea, ''::bytea)::audit_events))
                  OVER (PARTITION BY org_id ORDER BY seq) AS hash
        FROM whole
    ), chained AS (
        INSERT INTO audit_events
        SELECT id, moment, xid, stamp, org_id, type, actor_kind, actor_id, actor_profile, resource_id, before, after, request_id, address,
               salt, commitment, seq, COALESCE(lag(hash) OVER (PARTITION BY org_id ORDER BY seq), first), hash
        FROM linked
        RETURNING org_id, seq, hash, at
    )
    UPDATE audit_chains AS c SET seq = n.seq, hash = n.hash, at = n.at
    FROM (SELECT DISTINCT ON (org_id) * FROM chained ORDER BY org_id, seq DESC) AS n
    WHERE c.chain = COALESCE(n.org_id, '00000000-0000-0000-0000-000000000000');

    DELETE FROM audit_pending WHERE xid = transaction;
END $$;

-- Take the next revision, if this transaction is to have one and has none yet, and chain its audit events, if any wait. Whichever
-- deferred trigger comes first does it all.
CREATE FUNCTION seal_transaction(transaction xid8) RETURNS void
LANGUAGE plpgsql SET search_path = catalyst, pg_temp AS $$
DECLARE
    entries text;
    next head;
BEGIN
    IF EXISTS (SELECT FROM revisions WHERE xid = transaction AND revision IS NULL) THEN
        entries := doorbell_changes(transaction);
        UPDATE head SET revision = revision + 1, committed_at = clock_timestamp() RETURNING * INTO STRICT next;
        UPDATE revisions SET revision = next.revision, committed_at = next.committed_at WHERE xid = transaction;
        UPDATE outbox_events SET revision = next.revision WHERE xid = transaction AND revision IS NULL;
        PERFORM ring(format('{"r": %s, "t": %s%s}', next.revision, extract(epoch FROM next.committed_at), ', "c": ' || entries));
    END IF;
    DELETE FROM audit_transactions WHERE xid = transaction;
    IF FOUND THEN
        PERFORM chain_audit_events(transaction, (SELECT revision FROM revisions WHERE xid = transaction));
    END IF;
END $$;

-- READ COMMITTED only; a stricter transaction that meets another commit here fails with a serialization error and is tried again.
CREATE OR REPLACE FUNCTION take_revision() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = catalyst, pg_temp AS $$
BEGIN
    PERFORM seal_transaction(NEW.xid);
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER chain_audit_events AFTER INSERT ON audit_transactions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION take_revision();

-- One row a transaction, however many events: what is deferred is kept in memory.
CREATE FUNCTION await_audit_chain() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = catalyst, pg_temp AS $$
BEGIN
    INSERT INTO audit_transactions VALUES (pg_current_xact_id()) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

-- What was written before ----------------------------------------------------------------------------------------------------------

DO $$
DECLARE
    month timestamptz := (SELECT audit_month(min(at)) FROM audit_events_before);
BEGIN
    WHILE month < audit_month(now()) LOOP
        PERFORM attach_audit_partition(('audit_events_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM'))::name, month, audit_month(month, 1));
        month := audit_month(month, 1);
    END LOOP;
    PERFORM make_audit_partitions();
END $$;

WITH placed AS MATERIALIZED (
    SELECT ROW(b.id, b.at, b.xid, b.revision, b.org_id, b.type, b.actor_kind, b.actor_id,
               CASE b.actor_kind WHEN 'profile' THEN b.actor_id::uuid WHEN 'api_key' THEN k.profile_id END,
               b.resource_id, b.before, b.after, b.request_id, b.address, s.salt, audit_commitment(s.salt, b.address),
               row_number() OVER (PARTITION BY b.org_id ORDER BY b.id), ''::bytea, ''::bytea)::audit_events AS e
    FROM audit_events_before AS b
    LEFT JOIN api_keys AS k ON b.actor_kind = 'api_key' AND k.id::text = b.actor_id
    CROSS JOIN LATERAL (SELECT CASE WHEN b.address IS NOT NULL THEN uuid_send(gen_random_uuid()) END AS salt) AS s
), linked AS (
    SELECT e, audit_links(decode(repeat('00', 32), 'hex'), audit_text(e)) OVER (PARTITION BY (e).org_id ORDER BY (e).seq) AS hash
    FROM placed
)
INSERT INTO audit_events
SELECT (e).id, (e).at, (e).xid, (e).revision, (e).org_id, (e).type, (e).actor_kind, (e).actor_id, (e).actor_profile,
       (e).resource_id, (e).before, (e).after, (e).request_id, (e).address, (e).address_salt, (e).address_sha256, (e).seq,
       COALESCE(lag(hash) OVER (PARTITION BY (e).org_id ORDER BY (e).seq), decode(repeat('00', 32), 'hex')), hash
FROM linked;

INSERT INTO audit_chains (org_id, seq, hash, at)
SELECT DISTINCT ON (org_id) org_id, seq, hash, at FROM audit_events ORDER BY org_id, seq DESC;

SELECT setval('audit_event_ids', max(id)) FROM audit_events HAVING max(id) IS NOT NULL;

DROP TABLE audit_events_before;

-- Guards -------------------------------------------------------------------------------------------------------------------------

-- Audit events are written once, at the end of their transaction. Later an address may be forgotten; nothing else ever changes.
CREATE OR REPLACE FUNCTION keep_audit_event() RETURNS trigger
LANGUAGE plpgsql SET search_path = catalyst, pg_temp AS $$
DECLARE
    kept audit_events;
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.address IS NULL AND NEW.address_salt IS NULL THEN
        kept := NEW;
        kept.address := OLD.address;
        kept.address_salt := OLD.address_salt;
        IF kept IS NOT DISTINCT FROM OLD THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'audit events are never changed or removed' USING ERRCODE = 'insufficient_privilege';
END $$;

-- What is written to the log itself (by a version from before the chain, or by hand) goes the way of all events. As whoever writes:
-- what they may not choose they do not choose here either.
CREATE FUNCTION chain_first() RETURNS trigger
LANGUAGE plpgsql SET search_path = catalyst, pg_temp AS $$
BEGIN
    INSERT INTO audit_pending (org_id, type, actor_kind, actor_id, actor_profile, resource_id, before, after, request_id, address)
    VALUES (NEW.org_id, NEW.type, NEW.actor_kind, NEW.actor_id, NEW.actor_profile, NEW.resource_id, NEW.before, NEW.after,
            NEW.request_id, NEW.address);
    RETURN NULL;
END $$;

-- ALWAYS: session_replication_role, which switches ordinary triggers off, does not switch these off.
CREATE TRIGGER adopt_log_first BEFORE INSERT ON audit_pending EXECUTE FUNCTION adopt_log_first();
CREATE TRIGGER await_audit_chain AFTER INSERT ON audit_pending EXECUTE FUNCTION await_audit_chain();
CREATE TRIGGER chain_first BEFORE INSERT ON audit_events FOR EACH ROW WHEN (NEW.hash IS NULL) EXECUTE FUNCTION chain_first();
CREATE TRIGGER keep_audit_event BEFORE UPDATE OR DELETE ON audit_events FOR EACH ROW EXECUTE FUNCTION keep_audit_event();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON audit_events EXECUTE FUNCTION refuse_truncate();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON audit_events_rest EXECUTE FUNCTION refuse_truncate();
ALTER TABLE audit_pending ENABLE ALWAYS TRIGGER await_audit_chain;
ALTER TABLE audit_transactions ENABLE ALWAYS TRIGGER chain_audit_events;
ALTER TABLE audit_events ENABLE ALWAYS TRIGGER chain_first;
ALTER TABLE audit_events ENABLE ALWAYS TRIGGER keep_audit_event;
ALTER TABLE audit_events ENABLE ALWAYS TRIGGER refuse_truncate;
ALTER TABLE audit_events_rest ENABLE ALWAYS TRIGGER refuse_truncate;

-- Forget from which addresses a profile acted, by its sessions and by its API keys; for when a person's data is erased. The events
-- stay, and their chains hold. Returns how many had an address.
CREATE FUNCTION forget_addresses(profile uuid) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = catalyst, pg_temp AS $$
DECLARE
    forgotten bigint;
BEGIN
    UPDATE audit_events SET address = NULL, address_salt = NULL
    WHERE (actor_id = profile::text OR actor_kind = 'api_key' AND actor_profile = profile) AND address IS NOT NULL;
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END $$;

-- Checkpoints: what a chain was at a moment, signed. Kept here to be given out; what they prove they prove elsewhere ---------------

-- Not among signing_keys: sidecars hear of those, and what signs the log must not sign a session.
CREATE TABLE audit_keys (
    kid text PRIMARY KEY CHECK (kid ~ '^[A-Za-z0-9_-]{8,64}$'),
    -- RFC 7517 and 8037: Ed25519, without what makes it private.
    public_jwk jsonb NOT NULL CHECK (jsonb_typeof(public_jwk) = 'object' AND NOT public_jwk ? 'd'),
    -- The private half, wrapped by CATALYST_SECRET_KEY.
    private_wrapped bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE audit_checkpoints (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org_id uuid,
    chain uuid NOT NULL GENERATED ALWAYS AS (COALESCE(org_id, '00000000-0000-0000-0000-000000000000')) STORED,
    seq bigint NOT NULL CHECK (seq > 0),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    -- Retention drops the chain up to here: it is signed as such.
    dropped boolean NOT NULL DEFAULT false,
    -- RFC 7515, compact.
    jws text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_checkpoints_chain ON audit_checkpoints (chain, seq);

-- Retention ------------------------------------------------------------------------------------------------------------------------

-- The last event of each chain in the partitions that end by then, and whether they hold all of the chain up to it: after a clock was
-- put right a later event may stand in an earlier month.
CREATE FUNCTION audit_ends(until timestamptz) RETURNS TABLE (org_id uuid, chain uuid, seq bigint, hash bytea, whole boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = catalyst, pg_temp
BEGIN ATOMIC
    SELECT d.org_id, c.chain, d.seq, d.hash, d.events = d.seq - c.dropped_seq
    FROM (SELECT DISTINCT ON (e.org_id) e.org_id, e.seq, e.hash, count(*) OVER (PARTITION BY e.org_id) AS events
          FROM audit_events AS e
          WHERE e.at < $1 AND e.tableoid IN (SELECT to_regclass(quote_ident(p.name)) FROM audit_partitions AS p WHERE p.until <= $1)
          ORDER BY e.org_id, e.seq DESC) AS d
    JOIN audit_chains AS c ON c.chain = COALESCE(d.org_id, '00000000-0000-0000-0000-000000000000');
END;

-- Drop the partitions that end by then, no younger than four weeks. The rest of each chain goes on from what is remembered of the last
-- event, for which there must be a checkpoint that says so. What was dropped is an event itself.
CREATE FUNCTION drop_audit_events(until timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = catalyst, pg_temp AS $$
DECLARE
    ended record;
    part record;
    events bigint := 0;
BEGIN
    IF until > now() - interval '28 days' THEN
        RAISE EXCEPTION 'audit events are kept for four weeks at least' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock('catalyst.audit_partitions'::regclass::oid::bigint);
    PERFORM set_config('lock_timeout', '2s', true);
    LOCK TABLE audit_events IN ACCESS EXCLUSIVE MODE;
    FOR ended IN SELECT * FROM audit_ends(until) LOOP
        IF NOT ended.whole OR NOT EXISTS (SELECT FROM audit_checkpoints AS c
                                          WHERE c.dropped AND c.chain = ended.chain AND c.seq = ended.seq AND c.hash = ended.hash) THEN
            RAISE EXCEPTION 'the chain of % cannot go on from its event %', COALESCE(ended.org_id::text, 'the platform'), ended.seq
                USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Sign that its events up to there are dropped, first.';
        END IF;
        UPDATE audit_chains AS c SET dropped_seq = ended.seq, dropped_hash = ended.hash WHERE c.chain = ended.chain;
    END LOOP;
    FOR part IN SELECT * FROM audit_partitions AS p WHERE p.until <= drop_audit_events.until ORDER BY p.first LOOP
        EXECUTE format('SELECT count(*) + %s FROM %I', events, part.name) INTO events;
        EXECUTE format('DROP TABLE %I', part.name);
        DELETE FROM audit_partitions WHERE name = part.name;
    END LOOP;
    INSERT INTO audit_pending (type, actor_kind, actor_id, resource_id, before)
    VALUES ('audit_log.dropped', 'system', 'control-plane', 'audit_events', jsonb_build_object('until', until, 'events', events));
    RETURN events;
END $$;

-- Who may what -----------------------------------------------------------------------------------------------------------------------

GRANT SELECT ON audit_events TO catalyst_control;
GRANT INSERT (org_id, type, actor_kind, actor_id, actor_profile, resource_id, before, after, request_id, address)
    ON audit_pending, audit_events TO catalyst_control;
GRANT SELECT ON audit_chains, audit_partitions TO catalyst_control;
GRANT SELECT, INSERT ON audit_checkpoints TO catalyst_control;
GRANT SELECT, INSERT, UPDATE (private_wrapped) ON audit_keys TO catalyst_control;
GRANT EXECUTE ON FUNCTION audit_text(audit_events), audit_line(audit_events), forget_addresses(uuid), make_audit_partitions(int),
    audit_ends(timestamptz), drop_audit_events(timestamptz) TO catalyst_control;
GRANT EXECUTE ON FUNCTION make_audit_partitions(int) TO catalyst_worker;

DO $$
DECLARE
    target text;
BEGIN
    FOREACH target IN ARRAY ARRAY['audit_events', 'audit_pending', 'audit_chains', 'audit_checkpoints'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', target);
        EXECUTE format('CREATE POLICY control ON %I TO catalyst_control USING ((SELECT in_every_org()) OR org_id = ANY ((SELECT scoped_orgs())::uuid[]))',
                       target);
    END LOOP;
END $$;
ALTER TABLE audit_keys ENABLE ROW LEVEL SECURITY;
CREATE POLICY control ON audit_keys TO catalyst_control USING ((SELECT in_every_org()));
CREATE POLICY control_reads ON audit_keys FOR SELECT TO catalyst_control USING ((SELECT cardinality(scoped_orgs())) > 0);
