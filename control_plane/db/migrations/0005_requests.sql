-- What the control plane remembers of requests: answers to changes that may be sent again.

-- One row for each Idempotency-Key of the last 24 hours, written in the transaction of its change (control_plane/idempotency.py).
CREATE TABLE idempotency_keys (
    -- SHA-256 of who sent the key, in which org, and of the key: what clients make of keys is not kept.
    id bytea PRIMARY KEY CHECK (octet_length(id) = 32),
    -- The org that the sender acts in; NULL: the system org, which reaches every org.
    org_id uuid,
    -- SHA-256 of method, path, query and body.
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    -- Whose revision the answer carries.
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    -- Status, headers and body, wrapped by CATALYST_SECRET_KEY: an answer may hold a new secret.
    answer bytea NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_keys TO catalyst_control;
ALTER TABLE idempotency_keys ENABLE ROW LEVEL SECURITY;
CREATE POLICY control ON idempotency_keys TO catalyst_control
    USING ((SELECT in_every_org()) OR org_id = ANY ((SELECT scoped_orgs())::uuid[]));
