-- name: tables
SELECT relname FROM pg_class
WHERE relnamespace = 'catalyst'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
ORDER BY relname COLLATE "C";

-- name: settled
SELECT set_config('timezone', 'UTC', true), set_config('datestyle', 'ISO', true), set_config('intervalstyle', 'postgres', true),
       set_config('bytea_output', 'hex', true), set_config('extra_float_digits', '1', true);
