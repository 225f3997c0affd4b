-- The tables of Catalyst Auth. Everything lives in the schema "catalyst", owned by the role catalyst_migrate.
-- What sidecars must know is replicated: see 0002_revision.sql. Who may see what: see 0003_privileges.sql.
-- Constraints also keep out what a sidecar could not read (a label that is no text, a time "infinity"): rows written by hand travel.

CREATE DOMAIN slug AS text CHECK (VALUE ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$');

-- Printable ASCII without space, comma or quotes: an entitlement stands in comma-separated headers.
CREATE DOMAIN entitlement AS text CHECK (VALUE ~ '^[!#-&(-+\--~]{1,200}$');

-- Tenants and people ----------------------------------------------------------------------------------------------------------

CREATE TABLE orgs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    slug slug NOT NULL UNIQUE,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'archived')),
    -- The one org whose catalyst:* entitlements reach every org.
    is_system boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX orgs_one_system ON orgs (is_system) WHERE is_system;

CREATE TABLE profiles (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    kind text NOT NULL DEFAULT 'user' CHECK (kind IN ('user', 'service')),
    email text CHECK (length(email) BETWEEN 3 AND 320),
    display_name text NOT NULL DEFAULT '' CHECK (length(display_name) <= 200),
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'archived')),
    -- Names and texts.
    labels jsonb NOT NULL DEFAULT '{}'
        CHECK (jsonb_typeof(labels) = 'object' AND NOT jsonb_path_exists(labels, '$.* ? (@.type() != "string")')),
    -- Session tokens issued before this moment are refused.
    sessions_not_before timestamptz CHECK (isfinite(sessions_not_before)),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX profiles_email ON profiles (lower(email)) WHERE email IS NOT NULL;
CREATE INDEX profiles_created ON profiles (created_at, id);

CREATE TABLE identities (
    issuer text NOT NULL,
    subject text NOT NULL,
    profile_id uuid NOT NULL REFERENCES profiles ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX identities_profile ON identities (profile_id);

CREATE TABLE memberships (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    org_id uuid NOT NULL REFERENCES orgs ON DELETE CASCADE,
    profile_id uuid NOT NULL REFERENCES profiles ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (org_id, profile_id),
    UNIQUE (id, org_id)
);
CREATE INDEX memberships_profile ON memberships (profile_id);

CREATE TABLE groups (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    org_id uuid NOT NULL REFERENCES orgs ON DELETE CASCADE,
    slug slug NOT NULL,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    parent_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (org_id, slug),
    UNIQUE (id, org_id),
    FOREIGN KEY (parent_id, org_id) REFERENCES groups (id, org_id),
    CHECK (parent_id <> id)
);
CREATE INDEX groups_parent ON groups (parent_id) WHERE parent_id IS NOT NULL;

CREATE TABLE roles (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    org_id uuid NOT NULL REFERENCES orgs ON DELETE CASCADE,
    slug slug NOT NULL,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (org_id, slug),
    UNIQUE (id, org_id)
);

-- org_id stands in the link tables so that a membership can hold only roles and groups of its own org.
CREATE TABLE membership_roles (
    membership_id uuid NOT NULL,
    role_id uuid NOT NULL,
    org_id uuid NOT NULL,
    PRIMARY KEY (membership_id, role_id),
    FOREIGN KEY (membership_id, org_id) REFERENCES memberships (id, org_id) ON DELETE CASCADE,
    FOREIGN KEY (role_id, org_id) REFERENCES roles (id, org_id) ON DELETE CASCADE
);
CREATE INDEX membership_roles_role ON membership_roles (role_id);

CREATE TABLE membership_groups (
    membership_id uuid NOT NULL,
    group_id uuid NOT NULL,
    org_id uuid NOT NULL,
    PRIMARY KEY (membership_id, group_id),
    FOREIGN KEY (membership_id, org_id) REFERENCES memberships (id, org_id) ON DELETE CASCADE,
    FOREIGN KEY (group_id, org_id) REFERENCES groups (id, org_id) ON DELETE CASCADE
);
CREATE INDEX membership_groups_group ON membership_groups (group_id);

-- One entitlement of one org to one subject. The subject of kind "org" is the org itself.
CREATE TABLE grants (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    org_id uuid NOT NULL REFERENCES orgs ON DELETE CASCADE,
    subject_kind text NOT NULL CHECK (subject_kind IN ('org', 'group', 'role', 'membership', 'profile')),
    group_id uuid,
    role_id uuid,
    membership_id uuid,
    profile_id uuid REFERENCES profiles ON DELETE CASCADE,
    subject_id uuid NOT NULL GENERATED ALWAYS AS (
        CASE subject_kind WHEN 'org' THEN org_id WHEN 'group' THEN group_id WHEN 'role' THEN role_id
                          WHEN 'membership' THEN membership_id ELSE profile_id END) STORED,
    entitlement entitlement NOT NULL,
    reason text NOT NULL DEFAULT '' CHECK (length(reason) <= 500),
    expires_at timestamptz CHECK (isfinite(expires_at)),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (org_id, subject_kind, subject_id, entitlement),
    FOREIGN KEY (group_id, org_id) REFERENCES groups (id, org_id) ON DELETE CASCADE,
    FOREIGN KEY (role_id, org_id) REFERENCES roles (id, org_id) ON DELETE CASCADE,
    FOREIGN KEY (membership_id, org_id) REFERENCES memberships (id, org_id) ON DELETE CASCADE,
    CHECK (num_nonnulls(group_id, role_id, membership_id, profile_id) = (subject_kind <> 'org')::int)
);
CREATE INDEX grants_group ON grants (group_id) WHERE group_id IS NOT NULL;
CREATE INDEX grants_role ON grants (role_id) WHERE role_id IS NOT NULL;
CREATE INDEX grants_membership ON grants (membership_id) WHERE membership_id IS NOT NULL;
CREATE INDEX grants_profile ON grants (profile_id) WHERE profile_id IS NOT NULL;
CREATE INDEX grants_entitlement ON grants (org_id, entitlement);
CREATE INDEX grants_expiry ON grants (expires_at) WHERE expires_at IS NOT NULL;

-- Credentials -----------------------------------------------------------------------------------------------------------------

CREATE TABLE api_keys (
    -- The id stands in the key itself, cak_<id without dashes>_<secret>.
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    org_id uuid NOT NULL,
    profile_id uuid NOT NULL,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    -- SHA-256 of the whole key as the client sends it; 256 random bits need no salt.
    secret_sha256 bytea NOT NULL CHECK (octet_length(secret_sha256) = 32),
    scopes entitlement[] NOT NULL DEFAULT '{}' CHECK (array_position(scopes, NULL) IS NULL),
    -- NULL: all that the profile has; otherwise the intersection with this list.
    entitlements entitlement[] CHECK (array_position(entitlements, NULL) IS NULL),
    expires_at timestamptz CHECK (isfinite(expires_at)),
    revoked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (org_id, profile_id) REFERENCES memberships (org_id, profile_id) ON DELETE CASCADE
);
CREATE INDEX api_keys_owner ON api_keys (org_id, profile_id);

CREATE TABLE sessions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    org_id uuid REFERENCES orgs ON DELETE CASCADE,
    profile_id uuid NOT NULL REFERENCES profiles ON DELETE CASCADE,
    amr text[] NOT NULL DEFAULT '{}',
    acr text NOT NULL DEFAULT '',
    auth_time timestamptz NOT NULL DEFAULT now(),
    -- When the last token that was given out for this session ends.
    token_expires_at timestamptz NOT NULL CHECK (isfinite(token_expires_at)),
    revoked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX sessions_profile ON sessions (profile_id, created_at);

-- The exceptions that travel: sessions ended before their tokens were. Filled by a trigger on sessions.
CREATE TABLE session_revocations (
    session_id uuid PRIMARY KEY,
    profile_id uuid NOT NULL,
    -- After this moment no token of the session could pass anyway.
    until timestamptz NOT NULL CHECK (isfinite(until))
);
CREATE INDEX session_revocations_until ON session_revocations (until);

CREATE TABLE signing_keys (
    kid text PRIMARY KEY CHECK (kid ~ '^[A-Za-z0-9_-]{8,64}$'),
    algorithm text NOT NULL CHECK (algorithm IN ('EdDSA', 'ES256')),
    status text NOT NULL CHECK (status IN ('next', 'active', 'retiring', 'retired')),
    -- RFC 7517; without the members that make a key private (RFC 7518 section 6, RFC 8037 section 2).
    public_jwk jsonb NOT NULL CHECK (jsonb_typeof(public_jwk) = 'object' AND NOT public_jwk ?| ARRAY['d', 'k', 'p', 'q']),
    -- The private half, wrapped by CATALYST_SECRET_KEY.
    private_wrapped bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    not_after timestamptz CHECK (isfinite(not_after))
);
CREATE UNIQUE INDEX signing_keys_one_active ON signing_keys (status) WHERE status = 'active';

-- Applications and their policies ---------------------------------------------------------------------------------------------

CREATE TABLE applications (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    slug slug NOT NULL UNIQUE,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    -- Sent entitlements are narrowed to those that begin with one of these; empty: all.
    entitlement_prefixes text[] NOT NULL DEFAULT '{}' CHECK (array_position(entitlement_prefixes, NULL) IS NULL),
    -- Whether the application wants x-decision-jwt.
    assertions boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE application_hosts (
    -- Lower case, without port; "*.example.com" stands for one label.
    host text PRIMARY KEY CHECK (host = lower(host) AND length(host) BETWEEN 1 AND 253),
    application_id uuid NOT NULL REFERENCES applications ON DELETE CASCADE
);
CREATE INDEX application_hosts_application ON application_hosts (application_id);

CREATE TABLE policy_drafts (
    application_id uuid PRIMARY KEY REFERENCES applications ON DELETE CASCADE,
    -- As it was written, comments and all; document is what it says.
    source text NOT NULL,
    media_type text NOT NULL CHECK (media_type IN ('application/yaml', 'application/json')),
    document jsonb NOT NULL,
    etag text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE policy_versions (
    application_id uuid NOT NULL REFERENCES applications ON DELETE CASCADE,
    version int NOT NULL CHECK (version > 0),
    source text NOT NULL,
    media_type text NOT NULL,
    document jsonb NOT NULL,
    note text NOT NULL DEFAULT '' CHECK (length(note) <= 500),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (application_id, version)
);

-- The version in force. A row here is what sidecars enforce.
CREATE TABLE published_policies (
    application_id uuid PRIMARY KEY REFERENCES applications ON DELETE CASCADE,
    version int NOT NULL,
    document jsonb NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (application_id, version) REFERENCES policy_versions (application_id, version)
);

-- What happened ---------------------------------------------------------------------------------------------------------------

CREATE TABLE audit_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    -- Filled at commit by the trigger that takes the revision; NULL where no sidecar had to hear of it.
    revision bigint,
    -- NULL: the event belongs to the platform and not to one org. No foreign key: events outlive what they tell of.
    org_id uuid,
    -- "org.created", "grant.deleted": <resource>.<past tense>.
    type text NOT NULL CHECK (type ~ '^[a-z_]+\.[a-z_]+$'),
    actor_kind text NOT NULL CHECK (actor_kind IN ('profile', 'api_key', 'system', 'operator')),
    actor_id text NOT NULL,
    resource_id text NOT NULL,
    before jsonb,
    after jsonb,
    request_id text,
    address inet
);
CREATE INDEX audit_events_org ON audit_events (org_id, id);
CREATE INDEX audit_events_resource ON audit_events (resource_id, id);
CREATE INDEX audit_events_unstamped ON audit_events (xid) WHERE revision IS NULL;

-- Webhook events wait here in the transaction of their change; a worker delivers them.
CREATE TABLE outbox_events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    revision bigint,
    org_id uuid,
    type text NOT NULL CHECK (type ~ '^[a-z_]+\.[a-z_]+$'),
    data jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX outbox_events_unstamped ON outbox_events (xid) WHERE revision IS NULL;
CREATE INDEX outbox_events_created ON outbox_events (created_at);

-- Each running sidecar, written by itself through replica.report().
CREATE TABLE sidecars (
    id uuid PRIMARY KEY,
    version text NOT NULL CHECK (length(version) <= 100),
    applications text[] NOT NULL DEFAULT '{}' CHECK (cardinality(applications) <= 1000),
    revision bigint NOT NULL,
    lag_seconds double precision NOT NULL,
    -- Public half of the Ed25519 key that signs x-decision-jwt.
    assertion_jwk jsonb NOT NULL CHECK (assertion_jwk ->> 'kty' = 'OKP' AND NOT assertion_jwk ? 'd'),
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX sidecars_seen ON sidecars (seen_at);
