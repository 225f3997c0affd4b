-- Sessions that last: refresh, lifetimes, devices. Replicas know nothing of it: a refresh takes no revision.

-- How long people stay logged in. A session is good in every org of its profile, so the shortest of them holds.
ALTER TABLE orgs
    -- Without a refresh, which is how use is seen.
    ADD COLUMN session_idle_seconds int NOT NULL DEFAULT 28800 CHECK (session_idle_seconds BETWEEN 300 AND 31536000),
    -- However much it is used.
    ADD COLUMN session_lifetime_seconds int NOT NULL DEFAULT 604800 CHECK (session_lifetime_seconds BETWEEN 300 AND 31536000);

-- What a login brings. Of a session that was minted by the API all of it is empty: it has one token and no refresh.
ALTER TABLE sessions
    -- The identity provider, and the person's names there. No foreign key: sessions outlive a provider's configuration.
    ADD COLUMN provider_id uuid,
    ADD COLUMN issuer text NOT NULL DEFAULT '' CHECK (length(issuer) <= 1000),
    ADD COLUMN subject text NOT NULL DEFAULT '' CHECK (length(subject) <= 1000),
    ADD COLUMN upstream_sid text NOT NULL DEFAULT '' CHECK (length(upstream_sid) <= 1000),
    -- Wrapped by CATALYST_SECRET_KEY; for the logout at the provider.
    ADD COLUMN id_token_wrapped bytea NOT NULL DEFAULT '',
    -- Personal data, for the person and the administrator to see: they go with the row.
    ADD COLUMN device text NOT NULL DEFAULT '' CHECK (length(device) <= 100),
    ADD COLUMN address inet,
    ADD COLUMN last_seen_at timestamptz,
    -- When it ends unless it is refreshed; when it ends in any case.
    ADD COLUMN idle_ends_at timestamptz CHECK (isfinite(idle_ends_at)),
    ADD COLUMN absolute_ends_at timestamptz CHECK (isfinite(absolute_ends_at)),
    ADD COLUMN end_cause text CHECK (end_cause IN ('logout', 'everywhere', 'provider', 'reused', 'replaced', 'administrator')),
    -- Until when it can be used or refreshed; moves on with each refresh.
    ADD COLUMN usable_until timestamptz NOT NULL
        GENERATED ALWAYS AS (GREATEST(token_expires_at, LEAST(idle_ends_at, absolute_ends_at))) STORED,
    -- The latest that this can become. It stays as it is, so an index of it costs a refresh nothing.
    ADD COLUMN ends_at timestamptz NOT NULL GENERATED ALWAYS AS (COALESCE(absolute_ends_at, token_expires_at)) STORED,
    ADD CHECK (num_nulls(last_seen_at, idle_ends_at, absolute_ends_at) IN (0, 3)),
    ADD CHECK (token_expires_at <= absolute_ends_at);

-- Room on each page for the next version of a row: a refresh changes no column of an index (PostgreSQL manual, HOT updates).
ALTER TABLE sessions SET (fillfactor = 75);
DROP INDEX sessions_unended;
CREATE INDEX sessions_unended ON sessions (org_id, ends_at) WHERE revoked_at IS NULL;
CREATE INDEX sessions_subject ON sessions (provider_id, subject) WHERE provider_id IS NOT NULL AND revoked_at IS NULL;
CREATE INDEX sessions_upstream ON sessions (provider_id, upstream_sid)
    WHERE provider_id IS NOT NULL AND revoked_at IS NULL AND upstream_sid <> '';

-- A chain of refresh tokens: each replaces the one before. One for each host that a browser has the session on.
CREATE TABLE refresh_chains (
    -- Stands in the tokens, crt_<id without dashes>_<secret>.
    id uuid PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    -- Empty: the login page's own.
    host text NOT NULL CHECK (host = lower(host) AND length(host) <= 253),
    -- SHA-256 of the whole token as the client sends it; 256 random bits need no salt.
    current_sha256 bytea NOT NULL CHECK (octet_length(current_sha256) = 32),
    previous_sha256 bytea CHECK (octet_length(previous_sha256) = 32),
    -- The current token, sealed under the previous one: only who has that can open it.
    successor_sealed bytea,
    generation int NOT NULL DEFAULT 0,
    -- Until then the previous token still gives the current one.
    racing_until timestamptz NOT NULL,
    CHECK (num_nulls(previous_sha256, successor_sealed) IN (0, 2))
) WITH (fillfactor = 75);
CREATE INDEX refresh_chains_session ON refresh_chains (session_id, host);

-- Tokens that were replaced: who comes with one of them, or somebody else who has one, has stolen it.
CREATE TABLE spent_refresh_tokens (
    chain_id uuid NOT NULL REFERENCES refresh_chains ON DELETE CASCADE,
    sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32),
    spent_at timestamptz NOT NULL,
    PRIMARY KEY (chain_id, sha256)
);
CREATE INDEX spent_refresh_tokens_spent ON spent_refresh_tokens (spent_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON refresh_chains, spent_refresh_tokens TO catalyst_control;

-- Whoever holds a token is the person, in all their orgs.
DO $$
DECLARE
    target text;
BEGIN
    FOREACH target IN ARRAY ARRAY['refresh_chains', 'spent_refresh_tokens'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', target);
        EXECUTE format('CREATE POLICY control ON %I TO catalyst_control USING ((SELECT in_every_org()))', target);
    END LOOP;
END $$;

-- For who is erased. What the control plane did by itself in a request of theirs (to make their profile at the first login) was done
-- for their address too.
CREATE OR REPLACE FUNCTION forget_addresses(profile uuid) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = catalyst, pg_temp AS $$
DECLARE
    forgotten bigint;
BEGIN
    UPDATE audit_events AS e SET address = NULL, address_salt = NULL
    WHERE e.address IS NOT NULL
      AND (e.actor_id = profile::text
           OR e.actor_kind = 'api_key' AND e.actor_profile = profile
           OR e.actor_kind = 'system' AND e.request_id IN (
               SELECT theirs.request_id FROM audit_events AS theirs WHERE theirs.actor_id = profile::text));
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END $$;
