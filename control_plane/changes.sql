-- name: enter
SELECT set_config('catalyst.orgs', $1, true);

-- name: enter_for_change
SELECT pg_current_xact_id()::text FROM set_config('catalyst.orgs', $1, true);

-- name: record
WITH fact AS MATERIALIZED (
    SELECT number, org_id, id, before::jsonb AS before, after::jsonb AS after
    FROM unnest($7::uuid[], $8::text[], $9::text[], $10::text[]) WITH ORDINALITY AS f (org_id, id, before, after, number)
), audited AS (
    INSERT INTO catalyst.audit_pending
        (org_id, type, resource_id, before, after, actor_kind, actor_id, actor_profile, request_id, address)
    SELECT org_id, $1, id, before, after, $2, $3, $4, $5, $6::text::inet FROM fact ORDER BY number
)
INSERT INTO catalyst.outbox_events (org_id, type, data)
SELECT org_id, $1, jsonb_build_object('id', id, 'org', org_id, 'before', before, 'after', after) FROM fact ORDER BY number;

-- name: revision_of
SELECT catalyst.revision_of($1::text::xid8);
