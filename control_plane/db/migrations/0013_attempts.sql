-- Failed attempts to get in, counted in one place for all ways in and all control planes (control_plane/attempts.py).

-- A fixed number of places, each held by one key at a time: an attacker with any number of addresses makes it no larger. Unlogged: to
-- count costs no flush, and what a crash forgets would have ended within the minute.
CREATE UNLOGGED TABLE attempts (
    slot integer PRIMARY KEY CHECK (slot >= 0),
    -- Half an HMAC-SHA256 of an address, an account, or both, under a key of CATALYST_SECRET_KEY: who reads the table learns neither.
    key bytea NOT NULL CHECK (octet_length(key) = 16),
    failures integer NOT NULL CHECK (failures > 0),
    ends_at timestamptz NOT NULL
);

GRANT SELECT, INSERT, UPDATE, DELETE ON attempts TO catalyst_control;
