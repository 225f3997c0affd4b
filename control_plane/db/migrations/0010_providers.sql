-- Identity providers of orgs: whom people prove to who they are. Nothing of them is replicated: sidecars know sessions, not logins.

CREATE TABLE identity_providers (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    org_id uuid NOT NULL REFERENCES orgs ON DELETE CASCADE,
    slug slug NOT NULL,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    -- As discovery and tokens must name it, to the letter.
    issuer text NOT NULL CHECK (length(issuer) BETWEEN 1 AND 255),
    client_id text NOT NULL CHECK (length(client_id) BETWEEN 1 AND 255),
    -- Wrapped by CATALYST_SECRET_KEY. NULL: a public client.
    client_secret_wrapped bytea,
    scopes text[] NOT NULL,
    algorithms text[] NOT NULL,
    enabled boolean NOT NULL,
    -- Whether the login page offers it to everybody, and not only to those who name the org or an address of one of its domains.
    listed boolean NOT NULL,
    clock_skew_seconds integer NOT NULL CHECK (clock_skew_seconds BETWEEN 0 AND 300),
    -- Whether somebody new becomes a profile and a member of the org.
    just_in_time boolean NOT NULL,
    -- Of verified e-mail addresses that may become members; empty: any.
    domains text[] NOT NULL,
    groups_claim text NOT NULL,
    -- What counts as a second factor. Both NULL: what `amr` says is believed.
    second_factor_amr text[],
    second_factor_acr text[],
    -- Our names of authentication classes, each with the provider's.
    acr_aliases jsonb NOT NULL CHECK (jsonb_typeof(acr_aliases) = 'object'),
    -- The audience of its access tokens that are exchanged here; empty: none are.
    token_audience text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (org_id, slug),
    UNIQUE (org_id, issuer, client_id),
    UNIQUE (id, org_id)
);
CREATE INDEX identity_providers_domains ON identity_providers USING gin (domains);

-- A value of the provider's claim for groups, and the group of the org that stands for it.
CREATE TABLE identity_provider_groups (
    provider_id uuid NOT NULL,
    org_id uuid NOT NULL,
    value text NOT NULL CHECK (length(value) BETWEEN 1 AND 200),
    group_id uuid NOT NULL,
    PRIMARY KEY (provider_id, value),
    FOREIGN KEY (provider_id, org_id) REFERENCES identity_providers (id, org_id) ON DELETE CASCADE,
    FOREIGN KEY (group_id, org_id) REFERENCES groups (id, org_id) ON DELETE CASCADE
);
CREATE INDEX identity_provider_groups_group ON identity_provider_groups (group_id);

GRANT SELECT, INSERT, UPDATE, DELETE ON identity_providers, identity_provider_groups TO catalyst_control;

DO $$
DECLARE
    target text;
BEGIN
    FOREACH target IN ARRAY ARRAY['identity_providers', 'identity_provider_groups'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', target);
        EXECUTE format('CREATE POLICY control ON %I TO catalyst_control
                            USING ((SELECT in_every_org()) OR org_id = ANY ((SELECT scoped_orgs())::uuid[]))', target);
    END LOOP;
END $$;
