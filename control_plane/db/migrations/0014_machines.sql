-- Sessions of machines: what they were made from. What they are narrowed to stands in their tokens.

ALTER TABLE sessions
    -- The API key that a session was made from: it ends with the key.
    ADD COLUMN api_key_id uuid REFERENCES api_keys ON DELETE CASCADE,
    -- How: by which grant of the token endpoint. NULL: by a login, or minted by the API.
    ADD COLUMN made_from text CHECK (made_from IN ('api_key', 'client_credentials', 'access_token'));
CREATE INDEX sessions_api_key ON sessions (api_key_id) WHERE api_key_id IS NOT NULL;

ALTER TABLE sessions DROP CONSTRAINT sessions_end_cause_check;
ALTER TABLE sessions ADD CONSTRAINT sessions_end_cause_check
    CHECK (end_cause IN ('logout', 'everywhere', 'provider', 'reused', 'replaced', 'administrator', 'api_key'));

-- A key that was revoked, or whose end was moved to before the end of a token: what was made from it ends now. By trigger, so that it
-- holds for whoever ends a key. A key that is deleted takes its sessions with it, and sidecars hear of those too.
CREATE FUNCTION end_sessions_of_key() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = catalyst, pg_temp AS $$
BEGIN
    UPDATE sessions
    SET revoked_at = now(), end_cause = 'api_key'
    WHERE api_key_id = NEW.id AND revoked_at IS NULL AND token_expires_at > now()
      AND (NEW.revoked_at IS NOT NULL OR token_expires_at > NEW.expires_at);
    RETURN NULL;
END $$;

CREATE TRIGGER end_sessions_of_key AFTER UPDATE OF revoked_at, expires_at ON api_keys
    FOR EACH ROW WHEN (OLD.revoked_at IS DISTINCT FROM NEW.revoked_at OR OLD.expires_at IS DISTINCT FROM NEW.expires_at)
    EXECUTE FUNCTION end_sessions_of_key();
