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

-- What an API key may have of catalyst:*, where its profile has it. NULL: made by a version of the control plane that knew of no such
-- limit. A key that was made for little must not become an administrator's with its profile.
ALTER TABLE api_keys ADD COLUMN permissions entitlement[] CHECK (array_position(permissions, NULL) IS NULL);

-- Keys that are there keep what they could do today (permissions.sql, effective, says the same of one profile).
WITH RECURSIVE held_groups AS (
    SELECT k.id AS key_id, g.id, g.parent_id
    FROM api_keys k
    JOIN memberships m ON m.org_id = k.org_id AND m.profile_id = k.profile_id
    JOIN membership_groups mg ON mg.membership_id = m.id
    JOIN groups g ON g.id = mg.group_id
    UNION
    SELECT h.key_id, parent.id, parent.parent_id FROM held_groups h JOIN groups parent ON parent.id = h.parent_id
)
UPDATE api_keys k
SET permissions = ARRAY(
    SELECT DISTINCT gr.entitlement
    FROM memberships m
    JOIN grants gr ON gr.org_id = m.org_id
    WHERE m.org_id = k.org_id AND m.profile_id = k.profile_id
      AND gr.entitlement LIKE 'catalyst:%'
      AND (gr.expires_at IS NULL OR gr.expires_at > now())
      AND (k.entitlements IS NULL OR gr.entitlement = ANY (k.entitlements))
      AND (gr.subject_kind = 'org'
           OR gr.membership_id = m.id
           OR gr.profile_id = m.profile_id
           OR gr.role_id IN (SELECT mr.role_id FROM membership_roles mr WHERE mr.membership_id = m.id)
           OR gr.group_id IN (SELECT h.id FROM held_groups h WHERE h.key_id = k.id))
    ORDER BY gr.entitlement);
