-- All that is held about one profile ($1). Each query gives one JSON value a row: nothing but what is named here leaves.

-- name: profile
SELECT jsonb_build_object('id', id, 'kind', kind, 'email', email, 'display_name', display_name, 'status', status, 'labels', labels,
                          'sessions_not_before', sessions_not_before, 'created_at', created_at, 'updated_at', updated_at)::text
FROM catalyst.profiles WHERE id = $1;

-- name: identities
SELECT jsonb_build_object('issuer', issuer, 'subject', subject, 'created_at', created_at)::text
FROM catalyst.identities WHERE profile_id = $1 ORDER BY issuer, subject;

-- name: memberships
SELECT jsonb_build_object(
           'id', m.id, 'org', m.org_id, 'org_slug', o.slug, 'created_at', m.created_at,
           'roles', ARRAY(SELECT r.slug::text FROM catalyst.membership_roles mr JOIN catalyst.roles r ON r.id = mr.role_id
                          WHERE mr.membership_id = m.id ORDER BY 1),
           'groups', ARRAY(SELECT g.slug::text FROM catalyst.membership_groups mg JOIN catalyst.groups g ON g.id = mg.group_id
                           WHERE mg.membership_id = m.id ORDER BY 1))::text
FROM catalyst.memberships m JOIN catalyst.orgs o ON o.id = m.org_id
WHERE m.profile_id = $1 ORDER BY m.id;

-- name: grants
-- Those for the profile or a membership of it. What its orgs, roles and groups have is about them.
SELECT jsonb_build_object('id', g.id, 'org', g.org_id, 'subject', jsonb_build_object('kind', g.subject_kind, 'id', g.subject_id),
                          'entitlement', g.entitlement, 'reason', g.reason, 'expires_at', g.expires_at, 'created_at', g.created_at)::text
FROM catalyst.grants g
WHERE g.profile_id = $1 OR g.membership_id IN (SELECT id FROM catalyst.memberships WHERE profile_id = $1)
ORDER BY g.id;

-- name: api_keys
-- Without their secrets, hashes of secrets included.
SELECT jsonb_build_object('id', id, 'org', org_id, 'name', name, 'scopes', scopes, 'entitlements', entitlements, 'permissions', permissions,
                          'expires_at', expires_at, 'revoked_at', revoked_at, 'last_used_at', last_used_at, 'created_at', created_at)::text
FROM catalyst.api_keys WHERE profile_id = $1 ORDER BY id;

-- name: sessions
-- Without its ID token and the hashes of its refresh tokens.
SELECT jsonb_build_object('id', id, 'org', org_id, 'provider', provider_id, 'issuer', issuer, 'subject', subject,
                          'upstream_sid', upstream_sid, 'amr', amr, 'acr', acr, 'auth_time', auth_time, 'device', device,
                          'address', host(address), 'last_seen_at', last_seen_at, 'token_expires_at', token_expires_at,
                          'expires_at', ends_at, 'revoked_at', revoked_at, 'cause', end_cause, 'created_at', created_at)::text
FROM catalyst.sessions WHERE profile_id = $1 ORDER BY created_at, id;

-- name: decisions
SELECT jsonb_build_object('at', at, 'application', application_id, 'org', org_id, 'kind', kind, 'api_key', api_key_id, 'scopes', scopes,
                          'amr', amr, 'acr', acr, 'auth_time', auth_time, 'method', method, 'scheme', scheme, 'host', host,
                          'path', path, 'client', host(client), 'effect', effect, 'reason', reason, 'rule', rule)::text
FROM catalyst.decisions WHERE profile_id = $1 ORDER BY id;

-- name: audit_events
-- What the profile did, and what was done about it. From which address is theirs to know only where they acted themselves.
WITH theirs AS (
    SELECT $1::uuid AS id
    UNION ALL SELECT id FROM catalyst.memberships WHERE profile_id = $1
    UNION ALL SELECT id FROM catalyst.api_keys WHERE profile_id = $1
    UNION ALL SELECT id FROM catalyst.sessions WHERE profile_id = $1
    UNION ALL SELECT id FROM catalyst.grants
              WHERE profile_id = $1 OR membership_id IN (SELECT id FROM catalyst.memberships WHERE profile_id = $1)
), events AS (
    SELECT * FROM catalyst.audit_events WHERE actor_profile = $1
    UNION ALL
    SELECT * FROM catalyst.audit_events
    WHERE resource_id IN (SELECT id::text FROM theirs) AND actor_profile IS DISTINCT FROM $1
)
SELECT jsonb_build_object('id', id, 'at', at, 'type', type, 'org', org_id, 'actor', jsonb_build_object('kind', actor_kind, 'id', actor_id),
                          'resource', resource_id, 'before', before, 'after', after, 'revision', revision, 'request_id', request_id,
                          'address', CASE WHEN actor_profile = $1 THEN host(address) END)::text
FROM events ORDER BY id;
