-- Who may do what. Nothing is granted to PUBLIC. Four roles, one for each kind of process, without a way from one to another:
--   catalyst_migrate  owns everything; used by `catalyst migrate` alone
--   catalyst_control  the control plane: reads and changes within the orgs that each transaction names
--   catalyst_worker   deliveries and housekeeping
--   catalyst_sidecar  reads the replication views and, alone, the doorbell's key; reports itself, writes nothing

-- What the database itself allows (to connect, which is to listen to doorbells) is set by control_plane/db/migrate.py.

REVOKE ALL ON SCHEMA catalyst, replica FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA catalyst, replica FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA catalyst, replica FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

-- The sidecar ------------------------------------------------------------------------------------------------------------------

GRANT USAGE ON SCHEMA replica TO catalyst_sidecar;
GRANT SELECT ON ALL TABLES IN SCHEMA replica TO catalyst_sidecar;
GRANT EXECUTE ON FUNCTION catalyst.log_epoch(), catalyst.seconds(timestamptz),
    replica.report(uuid, text, text[], bigint, double precision, jsonb)
    TO catalyst_sidecar;

-- The control plane ------------------------------------------------------------------------------------------------------------

GRANT USAGE ON SCHEMA catalyst, replica TO catalyst_control;
GRANT SELECT, INSERT, UPDATE, DELETE ON
    orgs, profiles, identities, memberships, groups, roles, membership_roles, membership_groups, grants, api_keys, sessions,
    signing_keys, applications, application_hosts, policy_drafts, published_policies
    TO catalyst_control;
-- Versions of policies are immutable; they go only with their application (by the foreign key's own right).
GRANT SELECT, INSERT ON policy_versions TO catalyst_control;
-- Who writes an event cannot choose its number, time, transaction or revision.
GRANT SELECT ON audit_events TO catalyst_control;
GRANT INSERT (org_id, type, actor_kind, actor_id, resource_id, before, after, request_id, address) ON audit_events TO catalyst_control;
GRANT INSERT (org_id, type, data) ON outbox_events TO catalyst_control;
GRANT SELECT ON session_revocations, sidecars, alembic_version TO catalyst_control;
GRANT SELECT ON replica.head TO catalyst_control;
GRANT EXECUTE ON FUNCTION log_epoch(), revision_of(xid8), "trim"(double precision, bigint), seconds(timestamptz) TO catalyst_control;

-- The worker -------------------------------------------------------------------------------------------------------------------

GRANT USAGE ON SCHEMA catalyst TO catalyst_worker;
GRANT SELECT, DELETE ON outbox_events TO catalyst_worker;
GRANT SELECT ON alembic_version TO catalyst_worker;
GRANT EXECUTE ON FUNCTION "trim"(double precision, bigint) TO catalyst_worker;

-- Rows: the orgs of a transaction ----------------------------------------------------------------------------------------------
-- Each transaction of the control plane says whose it is: set_config('catalyst.orgs', <'*' or ids with commas>, true). One that says
-- nothing sees nothing. The worker serves all orgs. The owner is not bound: triggers and foreign keys see all rows.

-- Whether this transaction is the platform's.
CREATE FUNCTION in_every_org() RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN COALESCE(current_setting('catalyst.orgs', true), '') = '*';

-- The orgs that this transaction named; none for the platform and for who said nothing. Anything but ids is an error.
CREATE FUNCTION scoped_orgs() RETURNS uuid[]
LANGUAGE sql STABLE PARALLEL SAFE
RETURN COALESCE(string_to_array(NULLIF(NULLIF(current_setting('catalyst.orgs', true), ''), '*'), ',')::uuid[], '{}');

-- Whether a profile is a member of any other org than this one.
CREATE FUNCTION belongs_elsewhere(profile uuid, org uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = catalyst, pg_temp
RETURN EXISTS (SELECT FROM memberships AS m WHERE m.profile_id = $1 AND m.org_id <> $2);

REVOKE ALL ON FUNCTION in_every_org(), scoped_orgs(), belongs_elsewhere(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION in_every_org(), scoped_orgs(), belongs_elsewhere(uuid, uuid) TO catalyst_control;

-- The sub-selects make PostgreSQL work the scope out once a statement instead of once a row.
DO $$
DECLARE
    target text;
    org_column text;
BEGIN
    FOR target, org_column IN VALUES
        ('orgs', 'id'), ('memberships', 'org_id'), ('groups', 'org_id'), ('roles', 'org_id'), ('membership_roles', 'org_id'),
        ('membership_groups', 'org_id'), ('grants', 'org_id'), ('api_keys', 'org_id'), ('sessions', 'org_id'),
        ('audit_events', 'org_id'), ('outbox_events', 'org_id')
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', target);
        EXECUTE format('CREATE POLICY control ON %I TO catalyst_control USING ((SELECT in_every_org()) OR %I = ANY ((SELECT scoped_orgs())::uuid[]))',
                       target, org_column);
    END LOOP;
    -- These belong to no org: an org's administrators read what their own changes need, the platform changes them.
    FOREACH target IN ARRAY ARRAY[
        'signing_keys', 'applications', 'application_hosts', 'policy_drafts', 'policy_versions', 'published_policies']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', target);
        EXECUTE format('CREATE POLICY control ON %I TO catalyst_control USING ((SELECT in_every_org()))', target);
        EXECUTE format('CREATE POLICY control_reads ON %I FOR SELECT TO catalyst_control USING ((SELECT cardinality(scoped_orgs())) > 0)',
                       target);
    END LOOP;
    -- A profile exists for an org while it is a member there. What one org changed about it would change it for all.
    FOR target, org_column IN VALUES ('profiles', 'id'), ('identities', 'profile_id') LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', target);
        EXECUTE format('CREATE POLICY control ON %I TO catalyst_control USING ((SELECT in_every_org()))', target);
        EXECUTE format('CREATE POLICY control_reads ON %1$I FOR SELECT TO catalyst_control USING (EXISTS (SELECT FROM memberships AS m
                            WHERE m.profile_id = %1$I.%2$I AND m.org_id = ANY ((SELECT scoped_orgs())::uuid[])))',
                       target, org_column);
    END LOOP;
END $$;

-- To take in a profile is to see it and to act as it. What belongs to another org is brought in by the platform alone.
CREATE POLICY control_joins ON memberships AS RESTRICTIVE FOR INSERT TO catalyst_control
    WITH CHECK ((SELECT in_every_org()) OR NOT belongs_elsewhere(profile_id, org_id));
CREATE POLICY control_moves ON memberships AS RESTRICTIVE FOR UPDATE TO catalyst_control
    USING (true) WITH CHECK ((SELECT in_every_org()) OR NOT belongs_elsewhere(profile_id, org_id));

ALTER TABLE outbox_events ENABLE ROW LEVEL SECURITY;
CREATE POLICY worker ON outbox_events TO catalyst_worker USING (true);
