-- One-time codes from the login host to an application's host. Nothing here is known to sidecars.

-- Whoever shows the code (here only its SHA-256), at this host, with what this challenge is the hash of, gets this session's tokens.
CREATE TABLE handoffs (
    code_sha256 bytea PRIMARY KEY CHECK (length(code_sha256) = 32),
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    host text NOT NULL CHECK (host = lower(host) AND length(host) BETWEEN 1 AND 253),
    challenge bytea NOT NULL CHECK (length(challenge) = 32),
    expires_at timestamptz NOT NULL
);
CREATE INDEX handoffs_session ON handoffs (session_id);
CREATE INDEX handoffs_expires ON handoffs (expires_at);

-- Redeemed by being deleted: there is nothing to update.
GRANT SELECT, INSERT, DELETE ON handoffs TO catalyst_control;
ALTER TABLE handoffs ENABLE ROW LEVEL SECURITY;
CREATE POLICY control ON handoffs TO catalyst_control USING ((SELECT in_every_org()));
