-- name: settings
-- The snapshot lives as long as this transaction, which waits while pg_dump works.
SELECT set_config('idle_in_transaction_session_timeout', '0', true), set_config('statement_timeout', '0', true);

-- name: head
SELECT pg_export_snapshot() AS snapshot, h.revision, h.epoch, v.version_num AS schema_version
FROM catalyst.head AS h, catalyst.alembic_version AS v;

-- name: ours
SELECT nspname FROM pg_namespace WHERE nspname IN ('catalyst', 'replica') ORDER BY 1;

-- name: left_aside
SELECT nspname FROM pg_namespace WHERE nspname IN ('catalyst_replaced', 'replica_replaced') ORDER BY 1;

-- name: foreign_tables
SELECT format('%I.%I', n.nspname, c.relname)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm', 'f') AND n.nspname NOT LIKE 'pg\_%'
  AND n.nspname NOT IN ('information_schema', 'catalyst', 'replica', 'catalyst_replaced', 'replica_replaced')
  AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e')
ORDER BY 1;

-- name: schema_version
SELECT version_num FROM catalyst.alembic_version;

-- name: other_history
-- What comes after a restore is another history, whatever its numbers are.
UPDATE catalyst.head SET epoch = DEFAULT;

-- name: end_refresh
-- Who logged out since the backup would be logged in again for as long as a session lasts: everybody logs in anew.
DELETE FROM catalyst.refresh_chains;

-- name: chain_ends
SELECT COALESCE(org_id::text, 'platform') AS chain, seq || ' ' || encode(hash, 'hex') AS head FROM catalyst.audit_chains;

-- name: end_others
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid();
