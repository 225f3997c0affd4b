-- name: trim
SELECT catalyst.trim($1, $2);
