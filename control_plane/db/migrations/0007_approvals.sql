-- A second person before a policy goes into force, for applications that ask for it. Nothing here is known to sidecars.

ALTER TABLE applications
    ADD COLUMN second_approver boolean NOT NULL DEFAULT false,
    -- The version in force when the rule was turned on: what one person may go back to although nobody approved it.
    ADD COLUMN agreed_version int;

-- Everybody who wrote this very text since it became the draft.
ALTER TABLE policy_drafts ADD COLUMN authors uuid[] NOT NULL DEFAULT '{}';

-- Who agreed before it was published under the rule. No foreign key: versions outlive profiles.
ALTER TABLE policy_versions ADD COLUMN approved_by uuid;

-- Who agrees with the draft of this etag. With the etag '': that the rule is waived once (turned off, a host taken away, the
-- application deleted).
CREATE TABLE policy_approvals (
    application_id uuid NOT NULL REFERENCES applications ON DELETE CASCADE,
    etag text NOT NULL,
    profile_id uuid NOT NULL REFERENCES profiles ON DELETE CASCADE,
    approved_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (application_id, etag, profile_id)
);
CREATE INDEX policy_approvals_profile ON policy_approvals (profile_id);

GRANT SELECT, INSERT, UPDATE, DELETE ON policy_approvals TO catalyst_control;
ALTER TABLE policy_approvals ENABLE ROW LEVEL SECURITY;
CREATE POLICY control ON policy_approvals TO catalyst_control USING ((SELECT in_every_org()));
