-- Many people at once, and one who is to be forgotten.

-- Whether a profile may be made a member of an org by whom this transaction is for: an org's administrators reach who is in no org
-- yet, whom row-level security hides from them, and nobody who belongs to another.
CREATE FUNCTION joinable(profile uuid, org uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = catalyst, pg_temp
RETURN EXISTS (SELECT FROM profiles AS p WHERE p.id = $1) AND (in_every_org() OR NOT belongs_elsewhere($1, $2));

REVOKE ALL ON FUNCTION joinable(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION joinable(uuid, uuid) TO catalyst_control;
