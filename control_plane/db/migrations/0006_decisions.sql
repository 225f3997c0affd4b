-- What sidecars tell besides their revision: a sample of decisions (to replay a draft against, and to see what a shadowed draft would
-- have decided otherwise), and when API keys were last used. Replicas know nothing of it but the shadows, and nothing else here takes
-- a revision.

-- A draft that sidecars evaluate beside the policy in force. It decides nothing.
CREATE TABLE shadow_policies (
    application_id uuid PRIMARY KEY REFERENCES applications ON DELETE CASCADE,
    -- The draft that it was.
    etag text NOT NULL CHECK (length(etag) BETWEEN 1 AND 200),
    document jsonb NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now()
);

-- A relation that is new to every replica and empty now: no replica has an old form of it, so the epoch stays. Sidecars of before leave
-- its changes out.
SELECT replicate('shadow_policies', 'shadow_policies', $$'application_id', application_id$$, $$'etag', etag, 'document', document$$);

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
    shadow_rule text,
    -- Whether client or application would have noticed: effect, reason, what a stronger login must bring, obligations or headers.
    shadow_differs boolean NOT NULL DEFAULT false,
    CHECK (NOT shadow_differs OR shadow_etag IS NOT NULL),
    CHECK ((kind = 'anonymous') = (profile_id IS NULL) AND (kind = 'anonymous') = (org_id IS NULL)),
    CHECK ((kind = 'api_key') = (api_key_id IS NOT NULL)),
    CHECK (num_nulls(shadow_etag, shadow_effect, shadow_reason, shadow_rule) IN (0, 4))
);
CREATE INDEX decisions_application ON decisions (application_id, id);
CREATE INDEX decisions_differing ON decisions (application_id, id) WHERE shadow_differs;
CREATE INDEX decisions_at ON decisions (at);
-- For what goes with its profile, org or key.
CREATE INDEX decisions_profile ON decisions (profile_id) WHERE profile_id IS NOT NULL;
CREATE INDEX decisions_org ON decisions (org_id) WHERE org_id IS NOT NULL;
CREATE INDEX decisions_api_key ON decisions (api_key_id) WHERE api_key_id IS NOT NULL;

-- By application and draft: how many decisions a shadow saw, how many it would have made otherwise, how many broke it; and how many
-- decisions sidecars could not keep (shadow_etag '': without a shadow).
CREATE TABLE decision_counts (
    application_id uuid NOT NULL REFERENCES applications ON DELETE CASCADE,
    shadow_etag text NOT NULL DEFAULT '',
    seen bigint NOT NULL DEFAULT 0,
    differing bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    lost bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (application_id, shadow_etag)
);

-- To the minute or so, as sidecars tell it. Not in the projection of api_keys: no change of it travels.
ALTER TABLE api_keys ADD COLUMN last_used_at timestamptz;

-- What sidecars call --------------------------------------------------------------------------------------------------------------
-- One that was broken into can tell lies here, but cannot read, fill the disk or stop anyone: what one call brings and what is kept in
-- all are bounded, and rows that others hold are passed over instead of waited for, so that these calls are part of no deadlock.

-- Whether a draft is shadowed by an application, or was.
CREATE FUNCTION was_shadowed(application uuid, etag text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = catalyst, pg_temp
RETURN EXISTS (SELECT FROM shadow_policies AS s WHERE s.application_id = $1 AND s.etag = $2)
    OR EXISTS (SELECT FROM decision_counts AS c WHERE c.application_id = $1 AND c.shadow_etag = $2);

-- Keep decisions: of each call the first 1,000, of 4,000 bytes at most each, dated within the last day; of all the newest
-- 200,000 or so. What refers to nothing that is there (a profile was erased meanwhile) is left out. Returns how many were kept.
CREATE FUNCTION replica.report_decisions(sidecar uuid, batch jsonb) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = catalyst, pg_temp AS $$
DECLARE
    kept integer;
    first_id bigint;
    last_id bigint;
BEGIN
    WITH told AS MATERIALIZED (
        SELECT n, d.*
        FROM jsonb_array_elements(batch) WITH ORDINALITY AS e(entry, n), jsonb_to_record(entry) AS d(
            at double precision, application_id uuid, revision bigint, kind text, profile_id uuid, org_id uuid, api_key_id uuid,
            scopes text[], amr text[], acr text, auth_time double precision, method text, scheme text, host text, path text,
            client inet, effect text, reason text, rule text, shadow_etag text, shadow_effect text, shadow_reason text,
            shadow_rule text, shadow_differs boolean)
        WHERE n <= 1000 AND octet_length(entry::text) <= 4000
    ), held_applications AS MATERIALIZED (
        SELECT id FROM applications WHERE id IN (SELECT application_id FROM told) FOR KEY SHARE SKIP LOCKED
    ), held_orgs AS MATERIALIZED (
        SELECT id FROM orgs WHERE id IN (SELECT org_id FROM told) FOR KEY SHARE SKIP LOCKED
    ), held_profiles AS MATERIALIZED (
        SELECT id FROM profiles WHERE id IN (SELECT profile_id FROM told) FOR KEY SHARE SKIP LOCKED
    ), held_api_keys AS MATERIALIZED (
        SELECT id FROM api_keys WHERE id IN (SELECT api_key_id FROM told) FOR KEY SHARE SKIP LOCKED
    ), inserted AS (
        INSERT INTO decisions (at, sidecar_id, application_id, revision, kind, profile_id, org_id, api_key_id, scopes, amr, acr, auth_time,
                               method, scheme, host, path, client, effect, reason, rule,
                               shadow_etag, shadow_effect, shadow_reason, shadow_rule, shadow_differs)
        SELECT LEAST(GREATEST(to_timestamp(at), now() - interval '1 day'), now()), sidecar, application_id, revision, kind,
               profile_id, org_id, api_key_id, scopes, amr, acr, to_timestamp(auth_time),
               method, scheme, host, path, client, effect, reason, rule, shadow_etag, shadow_effect, shadow_reason, shadow_rule, shadow_differs
        FROM told
        WHERE application_id IN (SELECT id FROM held_applications)
          AND (org_id IS NULL OR org_id IN (SELECT id FROM held_orgs))
          AND (profile_id IS NULL OR profile_id IN (SELECT id FROM held_profiles))
          AND (api_key_id IS NULL OR api_key_id IN (SELECT id FROM held_api_keys))
          AND (shadow_etag IS NULL OR was_shadowed(application_id, shadow_etag))
        ORDER BY n
        RETURNING id
    )
    SELECT count(*), min(id), max(id) INTO kept, first_id, last_id FROM inserted;

    -- Finding the last that is kept takes a walk over all: once in 10,000 rows is often enough.
    IF last_id / 10000 > (first_id - 1) / 10000 THEN
        DELETE FROM decisions WHERE id IN (
            SELECT id FROM decisions WHERE id <= (SELECT id FROM decisions ORDER BY id DESC OFFSET 200000 LIMIT 1)
            FOR UPDATE SKIP LOCKED);
    END IF;
    RETURN kept;
END $$;

-- Add to the counts. Of each call the first 1,000; a draft that no shadow ever was is left out.
CREATE FUNCTION replica.report_counts(batch jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = catalyst, pg_temp
BEGIN ATOMIC
    WITH told AS MATERIALIZED (
        SELECT d.application_id, d.shadow_etag, d.seen, d.differing, d.failed, d.lost
        FROM jsonb_array_elements($1) WITH ORDINALITY AS e(entry, n), jsonb_to_record(entry) AS d(
            application_id uuid, shadow_etag text, seen bigint, differing bigint, failed bigint, lost bigint)
        WHERE n <= 1000
    ), held_applications AS MATERIALIZED (
        SELECT id FROM applications WHERE id IN (SELECT application_id FROM told) FOR KEY SHARE SKIP LOCKED
    )
    INSERT INTO decision_counts AS known (application_id, shadow_etag, seen, differing, failed, lost)
    SELECT application_id, shadow_etag, sum(LEAST(GREATEST(seen, 0), 1000000000)), sum(LEAST(GREATEST(differing, 0), 1000000000)),
           sum(LEAST(GREATEST(failed, 0), 1000000000)), sum(LEAST(GREATEST(lost, 0), 1000000000))
    FROM told
    WHERE application_id IN (SELECT id FROM held_applications)
      AND (shadow_etag = '' OR was_shadowed(application_id, shadow_etag))
    GROUP BY application_id, shadow_etag
    ORDER BY application_id, shadow_etag
    ON CONFLICT (application_id, shadow_etag) DO UPDATE
    SET seen = known.seen + excluded.seen, differing = known.differing + excluded.differing, failed = known.failed + excluded.failed,
        lost = known.lost + excluded.lost, updated_at = now();
END;

-- Note when API keys were used. Of each call the first 1,000; forward only, never into the future, and no finer than a minute, so that
-- many sidecars that see one key do not all write.
CREATE FUNCTION replica.report_use(batch jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = catalyst, pg_temp
BEGIN ATOMIC
    WITH told AS MATERIALIZED (
        SELECT d.id, max(LEAST(to_timestamp(d.at), now())) AS at
        FROM jsonb_array_elements($1) WITH ORDINALITY AS e(entry, n), jsonb_to_record(entry) AS d(id uuid, at double precision)
        WHERE n <= 1000
        GROUP BY d.id
    ), held AS MATERIALIZED (
        SELECT k.id, told.at FROM told JOIN api_keys AS k ON k.id = told.id
        WHERE k.last_used_at IS NULL OR k.last_used_at < told.at - interval '1 minute'
        FOR NO KEY UPDATE OF k SKIP LOCKED
    )
    UPDATE api_keys AS k SET last_used_at = held.at FROM held WHERE k.id = held.id;
END;

GRANT SELECT ON replica.shadow_policies TO catalyst_sidecar;
GRANT EXECUTE ON FUNCTION replica.report_decisions(uuid, jsonb), replica.report_counts(jsonb), replica.report_use(jsonb)
    TO catalyst_sidecar;

-- What the control plane may ------------------------------------------------------------------------------------------------------

GRANT SELECT, INSERT, UPDATE, DELETE ON shadow_policies TO catalyst_control;
GRANT SELECT ON decisions, decision_counts TO catalyst_control;

-- A shadow is like a draft: an org's administrators may read it. Decisions are of every org's people.
DO $$
DECLARE
    target text;
BEGIN
    FOREACH target IN ARRAY ARRAY['shadow_policies', 'decisions', 'decision_counts'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', target);
        EXECUTE format('CREATE POLICY control ON %I TO catalyst_control USING ((SELECT in_every_org()))', target);
    END LOOP;
END $$;
CREATE POLICY control_reads ON shadow_policies FOR SELECT TO catalyst_control USING ((SELECT cardinality(scoped_orgs())) > 0);

-- Housekeeping: of each application keep the newest keep_rows decisions of either sort, none older than keep_seconds; and the counts of drafts that are
-- shadowed or were within keep_seconds. Returns how many decisions went.
CREATE FUNCTION trim_decisions(keep_rows integer, keep_seconds double precision) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = catalyst, pg_temp AS $$
DECLARE
    oldest timestamptz := now() - make_interval(secs => keep_seconds);
    removed bigint;
    aged bigint;
BEGIN
    IF keep_rows < 0 OR keep_seconds < 0 THEN
        RAISE EXCEPTION 'trim_decisions() cannot keep less than nothing' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Of those that a shadow would have decided otherwise as many again: they are few and looked for.
    DELETE FROM decisions WHERE id IN (
        SELECT d.id FROM applications AS a CROSS JOIN (VALUES (true), (false)) AS sort (differing)
        CROSS JOIN LATERAL (SELECT s.id FROM decisions AS s WHERE s.application_id = a.id AND s.shadow_differs = differing
                            ORDER BY s.id DESC OFFSET keep_rows LIMIT 1) AS first_too_many
        JOIN decisions AS d ON d.application_id = a.id AND d.shadow_differs = differing AND d.id <= first_too_many.id
        FOR UPDATE OF d SKIP LOCKED);
    GET DIAGNOSTICS removed = ROW_COUNT;
    DELETE FROM decisions WHERE id IN (SELECT id FROM decisions WHERE at < oldest FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS aged = ROW_COUNT;
    DELETE FROM decision_counts WHERE (application_id, shadow_etag) IN (
        SELECT c.application_id, c.shadow_etag FROM decision_counts AS c
        WHERE c.shadow_etag <> '' AND c.updated_at < oldest
          AND NOT EXISTS (SELECT FROM shadow_policies AS s WHERE s.application_id = c.application_id AND s.etag = c.shadow_etag)
        FOR UPDATE SKIP LOCKED);
    RETURN removed + aged;
END $$;

GRANT EXECUTE ON FUNCTION trim_decisions(integer, double precision) TO catalyst_control, catalyst_worker;
