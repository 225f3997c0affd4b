-- Logouts that providers asked for, kept until nothing can come of them any more: a logout token that comes again is refused, and a
-- login that was under way at a provider while it was logging the person out ends in no session.

-- Of what the provider calls a person and a session of theirs, only the SHA-256: to be compared, never to be read.
CREATE TABLE provider_logouts (
    provider_id uuid NOT NULL,
    jti bytea NOT NULL CHECK (octet_length(jti) = 32),
    subject bytea CHECK (octet_length(subject) = 32),
    sid bytea CHECK (octet_length(sid) = 32),
    -- By the provider's clock.
    issued_at timestamptz NOT NULL CHECK (isfinite(issued_at)),
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kept_until timestamptz NOT NULL CHECK (isfinite(kept_until)),
    PRIMARY KEY (provider_id, jti),
    CHECK (subject IS NOT NULL OR sid IS NOT NULL)
);
CREATE INDEX provider_logouts_subject ON provider_logouts (provider_id, subject);
CREATE INDEX provider_logouts_sid ON provider_logouts (provider_id, sid);
CREATE INDEX provider_logouts_until ON provider_logouts (kept_until);

REVOKE ALL ON provider_logouts FROM PUBLIC;
GRANT SELECT, INSERT, DELETE ON provider_logouts TO catalyst_control;

-- Whoever logs in with a provider may belong to any org.
ALTER TABLE provider_logouts ENABLE ROW LEVEL SECURITY;
CREATE POLICY control ON provider_logouts TO catalyst_control USING ((SELECT in_every_org()));
