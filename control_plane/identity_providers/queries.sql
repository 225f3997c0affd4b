-- name: insert
INSERT INTO catalyst.identity_providers (
    id, org_id, slug, name, issuer, client_id, client_secret_wrapped, scopes, algorithms, enabled, listed, clock_skew_seconds,
    just_in_time, domains, groups_claim, second_factor_amr, second_factor_acr, acr_aliases, token_audience)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18::text::jsonb, $19);

-- name: find
SELECT p.id, p.org_id AS org, p.slug, p.name, p.issuer, p.client_id, p.client_secret_wrapped, p.scopes, p.algorithms, p.enabled, p.listed,
       p.clock_skew_seconds, p.just_in_time, p.domains, p.groups_claim, p.second_factor_amr, p.second_factor_acr,
       p.acr_aliases::text AS acr_aliases, p.token_audience, p.created_at, p.updated_at,
       COALESCE((SELECT jsonb_object_agg(m.value, g.slug) FROM catalyst.identity_provider_groups m
                 JOIN catalyst.groups g ON g.id = m.group_id WHERE m.provider_id = p.id), '{}')::text AS group_mappings
FROM catalyst.identity_providers p
WHERE p.org_id = $1 AND (p.id = $2 OR p.slug = $3);

-- name: lock
SELECT p.id FROM catalyst.identity_providers p WHERE p.org_id = $1 AND (p.id = $2 OR p.slug = $3) FOR UPDATE;

-- name: list
SELECT p.id, p.org_id AS org, p.slug, p.name, p.issuer, p.client_id, p.client_secret_wrapped, p.scopes, p.algorithms, p.enabled, p.listed,
       p.clock_skew_seconds, p.just_in_time, p.domains, p.groups_claim, p.second_factor_amr, p.second_factor_acr,
       p.acr_aliases::text AS acr_aliases, p.token_audience, p.created_at, p.updated_at,
       COALESCE((SELECT jsonb_object_agg(m.value, g.slug) FROM catalyst.identity_provider_groups m
                 JOIN catalyst.groups g ON g.id = m.group_id WHERE m.provider_id = p.id), '{}')::text AS group_mappings
FROM catalyst.identity_providers p
WHERE p.org_id = $1 AND ($2::text IS NULL OR p.slug > $2)
ORDER BY p.slug
LIMIT $3;

-- name: update
UPDATE catalyst.identity_providers
SET name = $2, issuer = $3, client_id = $4, client_secret_wrapped = $5, scopes = $6, algorithms = $7, enabled = $8, listed = $9,
    clock_skew_seconds = $10, just_in_time = $11, domains = $12, groups_claim = $13, second_factor_amr = $14,
    second_factor_acr = $15, acr_aliases = $16::text::jsonb, token_audience = $17, updated_at = now()
WHERE id = $1;

-- name: drop_groups
DELETE FROM catalyst.identity_provider_groups WHERE provider_id = $1;

-- name: add_groups
INSERT INTO catalyst.identity_provider_groups (provider_id, org_id, value, group_id)
SELECT $1, $2, mapping.value, mapping.group_id
FROM unnest($3::text[], $4::uuid[]) AS mapping (value, group_id);

-- name: delete
DELETE FROM catalyst.identity_providers WHERE id = $1;

-- name: active
-- An enabled provider of an active org, with the ids of the groups that stand for its own.
SELECT p.id, p.org_id, o.slug AS org_slug, p.slug, p.name, p.issuer, p.client_id, p.client_secret_wrapped, p.scopes, p.algorithms,
       p.listed, p.clock_skew_seconds, p.just_in_time, p.domains, p.groups_claim, p.second_factor_amr, p.second_factor_acr,
       p.acr_aliases::text AS acr_aliases, p.token_audience,
       COALESCE((SELECT jsonb_object_agg(m.value, m.group_id) FROM catalyst.identity_provider_groups m
                 WHERE m.provider_id = p.id), '{}')::text AS group_mappings
FROM catalyst.identity_providers p
JOIN catalyst.orgs o ON o.id = p.org_id
WHERE p.id = $1 AND ($2 OR (p.enabled AND o.status = 'active'));

-- name: hold
-- A login by a provider holds it off from being taken out of use until there is a session, which then ends with it. Not a lock on
-- the row: thousands of logins at once would write to it.
SELECT pg_advisory_xact_lock_shared(hashtextextended('identity provider ' || $1::uuid, 0));

-- name: hold_off
SELECT pg_advisory_xact_lock(hashtextextended('identity provider ' || $1::uuid, 0));

-- name: still
SELECT EXISTS (SELECT
               FROM catalyst.identity_providers p
               JOIN catalyst.orgs o ON o.id = p.org_id
               WHERE p.id = $1 AND p.issuer = $2 AND p.client_id = $3 AND p.enabled AND o.status = 'active');

-- name: taking_tokens
-- Enabled providers of active orgs whose access tokens with one of these audiences can be exchanged.
SELECT p.id
FROM catalyst.identity_providers p
JOIN catalyst.orgs o ON o.id = p.org_id
WHERE p.issuer = $1 AND p.token_audience <> '' AND p.token_audience = ANY ($2::text[]) AND p.enabled AND o.status = 'active'
ORDER BY p.id;

-- name: choices
-- What the login page offers: an org's providers; those of a domain; or those that are there for everybody.
SELECT p.id, p.org_id AS org, o.slug AS org_slug, p.slug, p.name
FROM catalyst.identity_providers p
JOIN catalyst.orgs o ON o.id = p.org_id
WHERE p.enabled AND o.status = 'active'
  AND CASE WHEN $1::uuid IS NOT NULL OR $2::text IS NOT NULL THEN o.id = $1 OR o.slug = $2
           WHEN $3::text IS NOT NULL THEN $3 = ANY (p.domains)
           ELSE p.listed END
ORDER BY p.name, p.id
LIMIT $4;

-- name: is_org
SELECT EXISTS (SELECT FROM catalyst.orgs WHERE id = $1 AND (id = $2 OR slug = $3));

-- name: sealed_by
SELECT substring(client_secret_wrapped FOR 12) AS head, count(*) AS values
FROM catalyst.identity_providers
WHERE client_secret_wrapped IS NOT NULL
GROUP BY 1;

-- name: sealed
SELECT id::text AS key, client_secret_wrapped AS sealed
FROM catalyst.identity_providers
WHERE client_secret_wrapped IS NOT NULL AND ($1::text IS NULL OR id > $1::uuid)
ORDER BY id
LIMIT $2
FOR UPDATE;

-- name: reseal
UPDATE catalyst.identity_providers p
SET client_secret_wrapped = new.sealed
FROM unnest($1::text[], $2::bytea[]) AS new (key, sealed)
WHERE p.id = new.key::uuid;
