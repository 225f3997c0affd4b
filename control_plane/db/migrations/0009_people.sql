-- Many people at once, and one who is to be forgotten.

-- Whether a profile may be made a member of an org by whom this transaction is for: an org's administrators reach who is in no org
-- yet, whom row-level security hides from them, and nobody who belongs to another.
CREATE FUNCTION joinable(profile uuid, org uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = catalyst, pg_temp
RETURN EXISTS (SELECT FROM profiles AS p WHERE p.id = $1) AND (in_every_org() OR NOT belongs_elsewhere($1, $2));

REVOKE ALL ON FUNCTION joinable(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION joinable(uuid, uuid) TO catalyst_control;

-- Erase a profile with everything that is personal, for a person who asks for it (GDPR, article 17), and say how much that was. What
-- stays names only the id, which means nothing any more: audit events without the addresses that the person acted from, and the
-- log, where the row is as of somebody archived, so that a sidecar that is behind comes to the same end and decides nothing
-- better on the way.
CREATE FUNCTION erase_profile(profile uuid) RETURNS TABLE (
    memberships bigint, grants bigint, api_keys bigint, sessions bigint, decisions bigint, addresses bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = catalyst, pg_temp AS $$
#variable_conflict use_column
DECLARE
    theirs uuid[];
BEGIN
    IF NOT in_every_org() THEN
        RAISE EXCEPTION 'a profile is erased from the system org' USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT array_agg(id) INTO theirs FROM (
        SELECT profile UNION ALL SELECT id FROM memberships WHERE profile_id = profile) AS them (id);
    SELECT (SELECT count(*) FROM memberships WHERE profile_id = profile),
           (SELECT count(*) FROM grants WHERE profile_id = profile OR membership_id = ANY (theirs)),
           (SELECT count(*) FROM api_keys WHERE profile_id = profile),
           (SELECT count(*) FROM sessions WHERE profile_id = profile),
           (SELECT count(*) FROM decisions WHERE profile_id = profile)
    INTO memberships, grants, api_keys, sessions, decisions;

    -- Answers that were kept for repeats of what was done about the person. They are sealed; what they show is found by what was done.
    SELECT theirs || array_agg(id) INTO theirs FROM (
        SELECT id FROM grants WHERE profile_id = profile OR membership_id = ANY (theirs)
        UNION ALL SELECT id FROM api_keys WHERE profile_id = profile
        UNION ALL SELECT id FROM sessions WHERE profile_id = profile) AS them;
    DELETE FROM idempotency_keys
    WHERE xid IN (SELECT xid FROM audit_events WHERE resource_id = ANY (theirs::text[]) AND at > now() - interval '2 days');

    UPDATE changes SET "row" = "row" || '{"email": null, "labels": {}, "status": "archived"}'
    WHERE relation = 'profiles' AND op = 'u' AND "row" ->> 'id' = profile::text;
    DELETE FROM profiles WHERE id = profile;
    addresses := forget_addresses(profile);
    RETURN NEXT;
END $$;

REVOKE ALL ON FUNCTION erase_profile(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION erase_profile(uuid) TO catalyst_control;
