-- name: enter
SELECT set_config('catalyst.orgs', $1, true);

-- name: transaction_id
SELECT pg_current_xact_id()::text;

-- name: record
WITH audited AS (
    INSERT INTO catalyst.audit_events
        (org_id, type, resource_id, before, after, actor_kind, actor_id, request_id, address)
    VALUES ($1, $2, $3, $4::text::jsonb, $5::text::jsonb, $6, $7, $8, $9::text::inet)
)
INSERT INTO catalyst.outbox_events (org_id, type, data)
VALUES ($1, $2, jsonb_build_object('id', $3::text, 'org', $1::uuid, 'before', $4::text::jsonb, 'after', $5::text::jsonb));

-- name: revision_of
SELECT catalyst.revision_of($1::text::xid8);
