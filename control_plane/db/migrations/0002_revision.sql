-- The revision: one number for each transaction that changes what sidecars must know, without gaps, visible in commit order.
--
-- Statement triggers on the replicated tables write what changed to "changes". The first change of a transaction adds its row to
-- "revisions"; at commit a deferred trigger on that row locks "head", takes the next number, writes it to the transaction's audit and
-- outbox events and rings the doorbell. The lock is held until the transaction has ended, so numbers become visible in their
-- order; what is rolled back, to a savepoint too, takes its number with it.
--
-- Transactions are named by their xid8, which never repeats in the life of a cluster. A dump restored into another cluster brings
-- names that this cluster will give out again: adopt_log() sees that before a new name is written and forgets the old.

CREATE TABLE head (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    revision bigint NOT NULL DEFAULT 0,
    committed_at timestamptz NOT NULL DEFAULT now(),
    -- The oldest revision that is still in the log. A replica at N can go on from the log while N >= oldest - 1.
    oldest bigint NOT NULL DEFAULT 1,
    -- Changes where replicas must read everything anew: a migration that alters a projection sets a new one.
    epoch uuid NOT NULL DEFAULT gen_random_uuid(),
    -- The cluster whose transaction ids the log holds, as log_origin() names it.
    origin text NOT NULL,
    -- Audit events up to this one came with a restored dump: their transaction ids mean nothing here.
    restored_audit_id bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);

CREATE TABLE revisions (
    xid xid8 PRIMARY KEY,
    -- NULL until the transaction commits.
    revision bigint UNIQUE,
    committed_at timestamptz
) WITH (fillfactor = 50);

CREATE TABLE changes (
    xid xid8 NOT NULL,
    ordinal bigint GENERATED ALWAYS AS IDENTITY,
    relation text NOT NULL,
    -- u: this row is there now. d: the row with this key is gone.
    op text NOT NULL CHECK (op IN ('u', 'd')),
    "row" jsonb NOT NULL,
    PRIMARY KEY (xid, ordinal)
);

-- The physical home of the log: cluster, database, table. A dump restored elsewhere has another one.
CREATE FUNCTION log_origin() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = catalyst, pg_temp
RETURN (SELECT concat_ws('.', c.system_identifier, d.oid, 'catalyst.head'::regclass::oid)
        FROM pg_control_system() AS c, pg_database AS d WHERE d.datname = current_database());

INSERT INTO head (origin) VALUES (log_origin());

-- What a replica compares to know whether its revision number still means the same history. The timeline, the first eight digits of a
-- WAL file's name, moves on at a failover and at a point-in-time recovery: either may have lost the last revisions and given
-- their numbers out again. (PostgreSQL manual, 26.3.6 Timelines.) Only a primary can answer; there is no LISTEN elsewhere.
CREATE FUNCTION history_of(epoch uuid, origin text) RETURNS uuid
LANGUAGE sql RETURN md5(concat_ws('.', epoch, origin, left(pg_walfile_name(pg_current_wal_lsn()), 8)))::uuid;

CREATE FUNCTION log_epoch() RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = catalyst, pg_temp
RETURN (SELECT history_of(epoch, log_origin()) FROM head);

-- Make a log that came with a dump this cluster's own: forget every transaction id in it. Revisions go on from where they were;
-- replicas see another epoch and read everything anew. Holds the head row, so that two transactions do not both do it.
CREATE FUNCTION adopt_log() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = catalyst, pg_temp AS $$
BEGIN
    PERFORM FROM head WHERE origin <> log_origin() FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    DELETE FROM changes;
    DELETE FROM revisions;
    UPDATE outbox_events SET xid = '0' WHERE revision IS NULL;
    UPDATE head SET origin = log_origin(), oldest = revision + 1,
                    restored_audit_id = COALESCE((SELECT max(id) FROM audit_events), 0);
END $$;

-- For tables other than the log that name transactions.
CREATE FUNCTION adopt_log_first() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = catalyst, pg_temp AS $$
BEGIN
    PERFORM adopt_log();
    RETURN NULL;
END $$;

CREATE TRIGGER adopt_log_first BEFORE INSERT ON audit_events EXECUTE FUNCTION adopt_log_first();
CREATE TRIGGER adopt_log_first BEFORE INSERT ON outbox_events EXECUTE FUNCTION adopt_log_first();

-- Enter this transaction in "revisions", once. Called after changes were written.
CREATE FUNCTION enter_transaction() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = catalyst, pg_temp AS $$
DECLARE
    taken bigint;
BEGIN
    SELECT revision INTO taken FROM revisions WHERE xid = pg_current_xact_id();
    IF NOT FOUND THEN
        INSERT INTO revisions (xid) VALUES (pg_current_xact_id());
    ELSIF taken IS NOT NULL THEN
        RAISE EXCEPTION 'this transaction has taken revision % already', taken
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Make every change before SET CONSTRAINTS ... IMMEDIATE, or make the rest in another transaction.';
    END IF;
END $$;

-- The doorbell ------------------------------------------------------------------------------------------------------------------
-- NOTIFY needs no privilege (PostgreSQL manual, NOTIFY): whoever connects can ring. Sidecars believe what comes with a MAC by a
-- key that their role alone may read, in replica.doorbell_key.

-- A key of HMAC with SHA-256, of 32 bytes, filled up to the 64 of a block, each XOR `byte` (RFC 2104, 2).
CREATE FUNCTION hmac_pad(key bytea, byte integer) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT
RETURN (SELECT decode(string_agg(lpad(to_hex(byte # CASE WHEN n < 32 THEN get_byte(key, n) ELSE 0 END), 2, '0'), ''
                                 ORDER BY n), 'hex')
        FROM generate_series(0, 63) AS n);

-- Three random uuids are 366 random bits. A new key: UPDATE doorbell_key SET key = DEFAULT.
CREATE TABLE doorbell_key (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    key bytea NOT NULL CHECK (octet_length(key) = 32)
        DEFAULT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())),
    inner_pad bytea NOT NULL GENERATED ALWAYS AS (hmac_pad(key, 54)) STORED,
    outer_pad bytea NOT NULL GENERATED ALWAYS AS (hmac_pad(key, 92)) STORED
);

INSERT INTO doorbell_key DEFAULT VALUES;

-- Ring with this message, its MAC (64 hex digits) before it. The MAC is of the epoch, as log_epoch() would say it now that the log
-- is this cluster's own, and of the message: what rang in one history is worth nothing in another. The key is only ever a column
-- here: the value of a variable would stand in the statement's plan, and anyone who makes changes can have plans printed
-- (PostgreSQL manual, debug_print_plan).
CREATE FUNCTION ring(message text) RETURNS void
LANGUAGE plpgsql SET search_path = catalyst, pg_temp AS $$
BEGIN
    PERFORM pg_notify('catalyst_revision', encode(sha256(k.outer_pad || sha256(k.inner_pad
        || convert_to(history_of(h.epoch, h.origin) || message, 'UTF8'))), 'hex') || message)
    FROM doorbell_key AS k, head AS h;
END $$;

-- The changes of a transaction as JSON text, if they fit into a doorbell beside 200 bytes of other things (64 the MAC); else NULL.
-- A notification holds less than 8,000 bytes (PostgreSQL manual, NOTIFY); an entry takes 40 at least, so 200 rows never fit.
CREATE FUNCTION doorbell_changes(transaction xid8) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = catalyst, pg_temp AS $$
DECLARE
    entries text;
BEGIN
    IF (SELECT count(*) FROM (SELECT FROM changes WHERE xid = transaction LIMIT 200) AS first) = 200 THEN
        RETURN NULL;
    END IF;
    SELECT json_agg(json_build_array(relation, op, "row") ORDER BY ordinal)::text INTO entries
    FROM changes WHERE xid = transaction;
    RETURN CASE WHEN octet_length(entries) <= 7700 THEN entries END;
END $$;

-- At commit: take the next revision, write it wherever this transaction's name stands, ring.
-- READ COMMITTED only; a stricter transaction that meets another commit here fails with a serialization error and is tried again.
CREATE FUNCTION take_revision() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = catalyst, pg_temp AS $$
DECLARE
    entries text := doorbell_changes(NEW.xid);
    next head;
BEGIN
    UPDATE head SET revision = revision + 1, committed_at = clock_timestamp() RETURNING * INTO STRICT next;
    UPDATE revisions SET revision = next.revision, committed_at = next.committed_at WHERE xid = NEW.xid;
    UPDATE audit_events SET revision = next.revision
    WHERE xid = NEW.xid AND revision IS NULL AND id > next.restored_audit_id;
    UPDATE outbox_events SET revision = next.revision WHERE xid = NEW.xid AND revision IS NULL;
    PERFORM ring(format('{"r": %s, "t": %s%s}', next.revision, extract(epoch FROM next.committed_at), ', "c": ' || entries));
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER take_revision AFTER INSERT ON revisions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION take_revision();

-- The revision of a transaction that has committed; the head's where it took none.
CREATE FUNCTION revision_of(transaction xid8) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = catalyst, pg_temp
RETURN COALESCE((SELECT revision FROM revisions WHERE xid = transaction), (SELECT revision FROM head));

-- TRUNCATE fires no row or statement triggers: sidecars and the audit log would not hear of it.
CREATE FUNCTION refuse_truncate() RETURNS trigger
LANGUAGE plpgsql SET search_path = catalyst, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'TRUNCATE of %.% is refused: nobody would hear of it', TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'feature_not_supported', HINT = 'DELETE the rows.';
END $$;

-- What travels -----------------------------------------------------------------------------------------------------------------

CREATE SCHEMA replica;

-- Replicate a table as a relation of the replica: a view with one JSON column, and triggers that record every change of it.
-- key and rest are arguments of jsonb_build_object over the table's columns; they must be immutable expressions. Calling it
-- again replaces the projection; a migration that does so must also set head.epoch, or replicas keep the old rows.
CREATE FUNCTION replicate(source regclass, relation name, key text, rest text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SET search_path = catalyst, pg_temp AS $create$
DECLARE
    recorder name := 'record_' || relation;
    whole text := concat_ws(', ', key, rest);
    event text;
BEGIN
    EXECUTE format('CREATE OR REPLACE VIEW replica.%I AS SELECT jsonb_build_object(%s) AS "row" FROM %s', relation, whole, source);
    EXECUTE format($function$
        CREATE OR REPLACE FUNCTION catalyst.%1$I() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = catalyst, pg_temp AS $body$
        BEGIN
            PERFORM adopt_log();
            IF TG_OP = 'INSERT' THEN
                INSERT INTO changes (xid, relation, op, "row")
                SELECT pg_current_xact_id(), %2$L, 'u', jsonb_build_object(%4$s) FROM new_rows;
            ELSIF TG_OP = 'DELETE' THEN
                INSERT INTO changes (xid, relation, op, "row")
                SELECT pg_current_xact_id(), %2$L, 'd', jsonb_build_object(%3$s) FROM old_rows;
            ELSE
                -- Rows whose projection stays as it was are left out; under a new key a row is gone and come again.
                INSERT INTO changes (xid, relation, op, "row")
                SELECT pg_current_xact_id(), %2$L, CASE WHEN n.key IS NULL THEN 'd' ELSE 'u' END, COALESCE(n.entry, o.key)
                FROM (SELECT jsonb_build_object(%3$s) AS key, jsonb_build_object(%4$s) AS entry FROM old_rows) AS o
                FULL JOIN (SELECT jsonb_build_object(%3$s) AS key, jsonb_build_object(%4$s) AS entry FROM new_rows) AS n
                    ON n.key = o.key
                WHERE n.entry IS DISTINCT FROM o.entry
                ORDER BY n.key IS NULL DESC;
            END IF;
            IF FOUND THEN
                PERFORM enter_transaction();
            END IF;
            RETURN NULL;
        END $body$ $function$, recorder, relation, key, whole);
    FOREACH event IN ARRAY ARRAY['INSERT', 'UPDATE', 'DELETE'] LOOP
        EXECUTE format('CREATE OR REPLACE TRIGGER %I AFTER %s ON %s REFERENCING %s FOR EACH STATEMENT EXECUTE FUNCTION catalyst.%I()',
                       'replicate_' || lower(event), event, source,
                       CASE event WHEN 'INSERT' THEN 'NEW TABLE AS new_rows' WHEN 'DELETE' THEN 'OLD TABLE AS old_rows'
                                  ELSE 'OLD TABLE AS old_rows NEW TABLE AS new_rows' END, recorder);
    END LOOP;
    EXECUTE format('CREATE OR REPLACE TRIGGER refuse_truncate BEFORE TRUNCATE ON %s EXECUTE FUNCTION catalyst.refuse_truncate()', source);
END $create$;

-- Times travel as seconds since 1970; NULL stays null.
CREATE FUNCTION seconds(moment timestamptz) RETURNS double precision
LANGUAGE sql IMMUTABLE RETURN extract(epoch FROM moment)::double precision;

-- Ids and texts as they are; see sidecar/replica/rows.py for how each is read.
SELECT replicate('orgs', 'orgs', $$'id', id$$, $$'slug', slug, 'status', status$$);
SELECT replicate('profiles', 'profiles', $$'id', id$$,
    $$'kind', kind, 'email', email, 'status', status, 'labels', labels, 'not_before', seconds(sessions_not_before)$$);
SELECT replicate('memberships', 'memberships', $$'id', id$$, $$'org_id', org_id, 'profile_id', profile_id$$);
SELECT replicate('groups', 'groups', $$'id', id$$, $$'org_id', org_id, 'slug', slug, 'parent_id', parent_id$$);
SELECT replicate('roles', 'roles', $$'id', id$$, $$'org_id', org_id, 'slug', slug$$);
SELECT replicate('membership_roles', 'membership_roles', $$'membership_id', membership_id, 'role_id', role_id$$);
SELECT replicate('membership_groups', 'membership_groups', $$'membership_id', membership_id, 'group_id', group_id$$);
SELECT replicate('grants', 'grants', $$'id', id$$,
    $$'org_id', org_id, 'subject_kind', subject_kind, 'subject_id', subject_id, 'entitlement', entitlement,
      'expires_at', seconds(expires_at)$$);
SELECT replicate('api_keys', 'api_keys', $$'id', replace(id::text, '-', '')$$,
    $$'org_id', org_id, 'profile_id', profile_id, 'sha256', encode(secret_sha256, 'hex'), 'scopes', scopes,
      'entitlements', entitlements, 'expires_at', seconds(expires_at), 'revoked', revoked_at IS NOT NULL$$);
SELECT replicate('session_revocations', 'session_revocations', $$'session_id', session_id$$,
    $$'profile_id', profile_id, 'until', seconds(until)$$);
SELECT replicate('signing_keys', 'signing_keys', $$'kid', kid$$,
    $$'algorithm', algorithm, 'status', status, 'jwk', public_jwk, 'not_after', seconds(not_after)$$);
SELECT replicate('applications', 'applications', $$'id', id$$,
    $$'slug', slug, 'entitlement_prefixes', entitlement_prefixes, 'assertions', assertions$$);
SELECT replicate('application_hosts', 'application_hosts', $$'host', host$$, $$'application_id', application_id$$);
SELECT replicate('published_policies', 'policies', $$'application_id', application_id$$,
    $$'version', version, 'document', document$$);

-- Where a replica stands against the database; asked every second by every sidecar.
CREATE VIEW replica.head AS
    SELECT revision, catalyst.log_epoch() AS epoch, oldest, committed_at, 1 AS format, clock_timestamp() AS "now" FROM head;

-- The log: ask for revision > N ORDER BY revision, ordinal, in one snapshot with replica.head.
CREATE VIEW replica.changes AS
    SELECT r.revision, c.ordinal, c.relation, c.op, c."row", r.committed_at
    FROM revisions r JOIN changes c ON c.xid = r.xid
    WHERE r.revision IS NOT NULL;

-- By what a sidecar knows that it was the database that rang.
CREATE VIEW replica.doorbell_key AS SELECT key FROM doorbell_key;

-- A sidecar says that it lives, how far it is and by which key its assertions are verified.
CREATE FUNCTION replica.report(id uuid, version text, applications text[], revision bigint, lag double precision, assertion_jwk jsonb)
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = catalyst, pg_temp
BEGIN ATOMIC
    INSERT INTO sidecars (id, version, applications, revision, lag_seconds, assertion_jwk)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT ON CONSTRAINT sidecars_pkey DO UPDATE
    SET version = excluded.version, applications = excluded.applications, revision = excluded.revision,
        lag_seconds = excluded.lag_seconds, assertion_jwk = excluded.assertion_jwk, seen_at = clock_timestamp();
END;

-- What else happens by itself ------------------------------------------------------------------------------------------------------

-- A session that ends before its tokens do becomes an exception that travels. An ended session stays ended.
CREATE FUNCTION record_revocation() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = catalyst, pg_temp AS $$
DECLARE
    ended sessions;
BEGIN
    IF TG_OP = 'UPDATE' AND (OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS NULL OR OLD.id <> NEW.id) THEN
        RAISE EXCEPTION 'a revoked session stays revoked, and a session keeps its id'
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Make a new session.';
    END IF;
    IF TG_OP = 'DELETE' THEN
        ended := OLD;
    ELSIF NEW.revoked_at IS NOT NULL THEN
        ended := NEW;
    END IF;
    IF ended.token_expires_at > now() THEN
        INSERT INTO session_revocations AS known (session_id, profile_id, until)
        VALUES (ended.id, ended.profile_id, ended.token_expires_at)
        ON CONFLICT (session_id) DO UPDATE SET until = excluded.until WHERE known.until < excluded.until;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER record_revocation AFTER INSERT OR DELETE OR UPDATE OF id, revoked_at, token_expires_at ON sessions
    FOR EACH ROW EXECUTE FUNCTION record_revocation();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON sessions EXECUTE FUNCTION refuse_truncate();

-- A group is never above itself. The org's row is held, so that two transactions cannot each add half of a ring.
CREATE FUNCTION refuse_group_cycle() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = catalyst, pg_temp AS $$
BEGIN
    PERFORM FROM orgs WHERE id = NEW.org_id FOR NO KEY UPDATE;
    IF EXISTS (
        WITH RECURSIVE above AS (
            SELECT parent_id FROM groups WHERE id = NEW.id
            UNION
            SELECT g.parent_id FROM above JOIN groups g ON g.id = above.parent_id
        )
        SELECT FROM above WHERE parent_id = NEW.id
    ) THEN
        RAISE EXCEPTION 'group % would be above itself', NEW.slug
            USING ERRCODE = 'check_violation', CONSTRAINT = 'groups_no_cycle', TABLE = 'groups', SCHEMA = 'catalyst';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER refuse_group_cycle AFTER INSERT OR UPDATE OF parent_id ON groups
    FOR EACH ROW WHEN (NEW.parent_id IS NOT NULL) EXECUTE FUNCTION refuse_group_cycle();

-- Audit events are written once. Their revision comes at the end of their own transaction; nothing else about them ever changes.
CREATE FUNCTION keep_audit_event() RETURNS trigger
LANGUAGE plpgsql SET search_path = catalyst, pg_temp AS $$
DECLARE
    stamp bigint;
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.revision IS NULL AND OLD.xid = pg_current_xact_id() THEN
        stamp := NEW.revision;
        NEW.revision := NULL;
        IF NEW IS NOT DISTINCT FROM OLD THEN
            NEW.revision := stamp;
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'audit events are never changed or removed' USING ERRCODE = 'insufficient_privilege';
END $$;

-- ALWAYS: session_replication_role, which switches ordinary triggers off, does not switch these off.
CREATE TRIGGER keep_audit_event BEFORE UPDATE OR DELETE ON audit_events FOR EACH ROW EXECUTE FUNCTION keep_audit_event();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON audit_events EXECUTE FUNCTION refuse_truncate();
ALTER TABLE audit_events ENABLE ALWAYS TRIGGER keep_audit_event;
ALTER TABLE audit_events ENABLE ALWAYS TRIGGER refuse_truncate;

-- Housekeeping: drop revisions older than keep_seconds beyond the newest keep_revisions, revocations whose tokens have long ended
-- (an hour for clocks that differ), sidecars unseen for a day. Returns how many revisions went. Two at once: the second does nothing.
CREATE FUNCTION "trim"(keep_seconds double precision, keep_revisions bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = catalyst, pg_temp AS $$
DECLARE
    first_kept bigint;
    removed bigint;
BEGIN
    IF keep_seconds < 0 OR keep_revisions < 0 THEN
        RAISE EXCEPTION 'trim() cannot keep less than nothing' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF NOT pg_try_advisory_xact_lock('catalyst.changes'::regclass::oid::bigint) THEN
        RETURN 0;
    END IF;
    DELETE FROM sidecars WHERE seen_at < now() - interval '1 day';
    DELETE FROM session_revocations WHERE until < now() - interval '1 hour';

    SELECT LEAST(h.revision + 1 - keep_revisions,
                 COALESCE((SELECT r.revision FROM revisions r
                           WHERE r.revision IS NOT NULL AND r.committed_at >= now() - make_interval(secs => keep_seconds)
                           ORDER BY r.revision LIMIT 1), h.revision + 1))
    INTO first_kept FROM head h;
    DELETE FROM changes c USING revisions r WHERE c.xid = r.xid AND r.revision < first_kept;
    DELETE FROM revisions WHERE revision < first_kept;
    GET DIAGNOSTICS removed = ROW_COUNT;
    IF removed > 0 THEN
        UPDATE head SET oldest = first_kept;
    END IF;
    RETURN removed;
END $$;
