-- Keys and sessions: when a signing key began to sign and when all replicas know it; many sessions ended by one statement.

ALTER TABLE signing_keys
    ADD COLUMN activated_at timestamptz,
    -- A revision at or after the one that brought the key. NULL until housekeeping, after the key's commit, has seen one.
    ADD COLUMN known_at_revision bigint;

-- Of keys from before, when they were made is the nearest that is known.
UPDATE signing_keys SET activated_at = created_at WHERE status <> 'next';

-- By trigger, so that programs of the version before, which run beside this one during an upgrade, mark it too.
CREATE FUNCTION mark_activation() RETURNS trigger
LANGUAGE plpgsql SET search_path = catalyst, pg_temp AS $$
BEGIN
    NEW.activated_at := now();
    RETURN NEW;
END $$;

CREATE TRIGGER mark_activation BEFORE INSERT OR UPDATE OF status ON signing_keys
    FOR EACH ROW WHEN (NEW.status = 'active' AND NEW.activated_at IS NULL) EXECUTE FUNCTION mark_activation();

-- Sessions ----------------------------------------------------------------------------------------------------------------------

-- Listed newest first, of an org or of all. The partial one finds what ending all of an org's sessions has yet to end.
CREATE INDEX sessions_created ON sessions (created_at, id);
CREATE INDEX sessions_org ON sessions (org_id, created_at, id);
CREATE INDEX sessions_unended ON sessions (org_id, token_expires_at) WHERE revoked_at IS NULL;

-- Row by row, ending an org's 100,000 sessions took a run of every trigger below session_revocations for each of them.
DROP TRIGGER record_revocation ON sessions;

CREATE OR REPLACE FUNCTION record_revocation() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = catalyst, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM ended WHERE token_expires_at > now() AND (revoked_at IS NOT NULL OR TG_OP = 'DELETE')) THEN
        INSERT INTO session_revocations AS known (session_id, profile_id, until)
        SELECT id, profile_id, token_expires_at
        FROM ended
        WHERE token_expires_at > now() AND (revoked_at IS NOT NULL OR TG_OP = 'DELETE')
        ON CONFLICT (session_id) DO UPDATE SET until = excluded.until WHERE known.until < excluded.until;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER record_revocation_inserted AFTER INSERT ON sessions REFERENCING NEW TABLE AS ended
    FOR EACH STATEMENT EXECUTE FUNCTION record_revocation();
CREATE TRIGGER record_revocation_updated AFTER UPDATE ON sessions REFERENCING NEW TABLE AS ended
    FOR EACH STATEMENT EXECUTE FUNCTION record_revocation();
CREATE TRIGGER record_revocation_deleted AFTER DELETE ON sessions REFERENCING OLD TABLE AS ended
    FOR EACH STATEMENT EXECUTE FUNCTION record_revocation();

CREATE FUNCTION keep_revoked() RETURNS trigger
LANGUAGE plpgsql SET search_path = catalyst, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'a revoked session stays revoked, and a session keeps its id'
        USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Make a new session.';
END $$;

CREATE TRIGGER keep_revoked BEFORE UPDATE OF id, revoked_at ON sessions
    FOR EACH ROW WHEN (OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS NULL OR OLD.id <> NEW.id)
    EXECUTE FUNCTION keep_revoked();
