-- What sidecars tell besides their revision: a sample of decisions (to replay a draft against, and to see what a shadowed draft would
-- have decided otherwise), and when API keys were last used. Nothing here is known to replicas but the shadows; nothing takes a
-- revision but they.

-- A draft that sidecars evaluate beside the policy in force. It decides nothing.
CREATE TABLE shadow_policies (
    application_id uuid PRIMARY KEY REFERENCES applications ON DELETE CASCADE,
    -- The draft that it was.
    etag text NOT NULL,
    document jsonb NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now()
);

-- Decisions as sidecars made them: who (as a principal, without any credential), what was asked, what was answered, at which revision.
CREATE TABLE decisions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    sidecar_id uuid NOT NULL,
    application_id uuid NOT NULL REFERENCES applications ON DELETE CASCADE,
    revision bigint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('anonymous', 'session', 'api_key')),
    profile_id uuid REFERENCES profiles ON DELETE CASCADE,
    org_id uuid REFERENCES orgs ON DELETE CASCADE,
    -- Narrows the profile's entitlements where the key does.
    api_key_id uuid REFERENCES api_keys ON DELETE CASCADE,
    scopes text[] NOT NULL DEFAULT '{}',
    amr text[] NOT NULL DEFAULT '{}',
    acr text NOT NULL DEFAULT '',
    auth_time timestamptz,
    -- The canonical request; the path as it was sent, without its query.
    method text NOT NULL,
    scheme text NOT NULL,
    host text NOT NULL,
    path text NOT NULL,
    client inet NOT NULL,
    effect text NOT NULL CHECK (effect IN ('allow', 'deny')),
    reason text NOT NULL,
    rule text NOT NULL DEFAULT '',
    -- What the shadow said, where there was one: its draft and its answer.
    shadow_etag text,
    shadow_effect text CHECK (shadow_effect IN ('allow', 'deny')),
    shadow_reason text,
    shadow_rule text
);
CREATE INDEX decisions_application ON decisions (application_id, id);
CREATE INDEX decisions_profile ON decisions (profile_id) WHERE profile_id IS NOT NULL;
CREATE INDEX decisions_at ON decisions (at);

-- By application and draft: how many decisions a shadow saw, how many it would have made otherwise, how many broke it; and how many
-- decisions sidecars could not keep (shadow_etag '': without a shadow).
CREATE TABLE decision_counts (
    application_id uuid NOT NULL REFERENCES applications ON DELETE CASCADE,
    shadow_etag text NOT NULL DEFAULT '',
    seen bigint NOT NULL DEFAULT 0,
    differing bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    lost bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (application_id, shadow_etag)
);

ALTER TABLE api_keys ADD COLUMN last_used_at timestamptz;
