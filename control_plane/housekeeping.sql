-- name: trim
SELECT catalyst.trim($1, $2);

-- name: trim_decisions
SELECT catalyst.trim_decisions($1, $2);
