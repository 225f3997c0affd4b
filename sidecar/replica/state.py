"""Everything a sidecar knows at one revision. No I/O, no clock."""

from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Any, Final, NamedTuple

from sidecar.replica.catalogue import Application, Catalogue, PolicyReader, read_policy
from sidecar.replica.directory import Directory
from sidecar.replica.kept import ApiKey, Org, Profile, Stamp
from sidecar.replica.keyring import SigningKey, usable_key
from sidecar.replica.rows import SHAPES, Change, Key, Row, SigningKeyRow, decode, decode_key

EFFECTIVE_CACHE: Final = 65_536
"""Members in each of the two generations of kept results."""


class Inconsistent(Exception):
    """Changes that do not fit what is known. The state is dead; only a new one, read in full, helps."""


class Effective(NamedTuple):
    """What a profile has in an org, while every stamp is valid and the time is before `until` (epoch seconds).

    Groups include the groups that they lie in. All three sets are empty where the org or the profile is not active.
    """

    profile: Profile
    org: Org
    groups: frozenset[str]
    roles: frozenset[str]
    entitlements: frozenset[str]
    until: float
    stamps: tuple[Stamp, ...]


class State:
    """A copy of the replicated rows at `revision` of the database `epoch`. Changed only by `apply`, which is atomic.

    `alive` is a stamp of the whole: it dies when the state is thrown away, so that nothing kept from it outlives it.
    `latest` dies with every revision.
    """

    def __init__(self, epoch: str, revision: int, scope: frozenset[str] | None = None, read: PolicyReader = read_policy) -> None:
        self.epoch = epoch
        self.revision = revision
        self.alive = Stamp()
        self.latest = Stamp()
        self.directory = Directory()
        self._remains = Directory()
        self.catalogue = Catalogue(scope, read)
        self.signing_keys: dict[str, SigningKeyRow] = {}
        self._usable_keys: dict[str, SigningKey] = {}
        self._keyring = Stamp()
        self._young: dict[tuple[str, str], Effective] = {}
        self._old: dict[tuple[str, str], Effective] = {}
        self._tables = self._make_tables()

    # --- questions -------------------------------------------------------------------------------------------------------------

    @property
    def principals(self) -> int:
        """How many profiles are known."""
        return len(self.directory.profiles)

    def application(self, host: str) -> Application | None:
        """The application of a canonical host."""
        return self.catalogue.find(host)

    def signing_key(self, kid: str) -> SigningKey | None:
        """A key that session tokens may be signed with."""
        return self._usable_keys.get(kid)

    def api_key(self, key_id: str) -> ApiKey | None:
        """An API key by its id (32 hexadecimal digits), revoked and expired ones too."""
        return self.directory.api_key(key_id)

    def is_revoked(self, session_id: str) -> bool:
        """Whether a session was ended before its tokens were."""
        return session_id in self.directory.revocations

    def profile(self, profile_id: str) -> Profile | None:
        """A profile by its UUID in text."""
        return self.directory.profile(profile_id)

    def org(self, org_id: str) -> Org | None:
        """An org by its UUID in text."""
        return self.directory.org(org_id)

    def org_by_slug(self, slug: str) -> Org | None:
        """An org by its slug."""
        return self.directory.orgs_by_slug.get(slug)

    def effective(self, profile_id: str, org_id: str, now: float) -> Effective | None:
        """What a profile has in an org at `now` (epoch seconds); None if it is no member.

        Should the clock be set back, what had ended stays ended until something changes: fewer rights, never more.
        """
        question = (profile_id, org_id)
        known = self._young.get(question) or self._old.get(question)
        if known is not None and now < known.until and all(map(_valid, known.stamps)):
            return known
        return self._work_out(question, now)

    def _work_out(self, question: tuple[str, str], now: float) -> Effective | None:
        profile, org = self.directory.profile(question[0]), self.directory.org(question[1])
        membership = profile.membership(org) if profile is not None and org is not None else None
        if profile is None or org is None or membership is None:
            return None
        held = self.directory.held(membership, now)
        sets = (held.groups, held.roles, held.entitlements) if org.active and profile.active else (frozenset[str](),) * 3
        found = Effective(profile, org, *sets, held.until, (self.alive, org.stamp, profile.stamp))
        if len(self._young) >= EFFECTIVE_CACHE:
            self._old, self._young = self._young, {}
        self._young[question] = found
        return found

    # --- changes ---------------------------------------------------------------------------------------------------------------

    def load(self, relation: str, rows: Iterable[dict[str, Any]]) -> None:
        """Take rows of a snapshot, relation by relation in the order of `SHAPES`; `settle` follows the last.

        Raises BadRow, Inconsistent.
        """
        self._put(relation, (decode(relation, row) for row in rows))

    def settle(self) -> None:
        """Compile the policies and shadows that `load` brought."""
        self.catalogue.settle()

    def apply(self, revision: int, changes: Iterable[Change]) -> None:
        """Go from the revision before to this one, at once. Any exception leaves the state dead: it must be replaced.

        Only what each row was in the end counts, put in order of reference, dropped in reverse: the order of the statements
        within a transaction does not matter. Raises BadRow, Inconsistent, OutOfScope.
        """
        try:
            if revision != self.revision + 1 or not self.alive.valid:
                raise Inconsistent(f"revision {revision} does not follow {self.revision}")
            self._take(_net(changes))
        except BaseException:
            self.retire()
            raise
        self.revision = revision
        self.latest.valid = False
        self.latest = Stamp()

    def _take(self, net: dict[str, dict[Key, Row | None]]) -> None:
        relations = [relation for relation in SHAPES if relation in net]
        for relation in relations:
            self._put(relation, (row for row in net[relation].values() if row is not None))
        for relation in reversed(relations):
            drop = self._tables[relation].drop
            for key, row in net[relation].items():
                if row is None:
                    drop(key)
        self.catalogue.settle()

    def _put(self, relation: str, rows: Iterable[Row]) -> None:
        put = self._tables[relation].put
        try:
            for row in rows:
                put(row)
        except KeyError as error:
            raise Inconsistent(f"a row of {relation} refers to a row that is not there") from error

    def retire(self) -> None:
        """Kill every result that was made from this state, and answer nothing any more."""
        if not self.alive.valid:
            return
        for stamp in (self.alive, self.latest, self._keyring):
            stamp.valid = False
        self.catalogue.retire()
        self._remains = self.directory
        self.directory = Directory()
        self.catalogue = Catalogue(frozenset())
        self._tables = {}  # they hold on to everything, this state included
        self._usable_keys = {}
        self._young, self._old = {}, {}

    def take_apart(self) -> Iterator[None]:
        """Give the memory of a retired state back, a slice at a time."""
        return self._remains.take_apart()

    def _put_signing_key(self, row: SigningKeyRow) -> None:
        self.signing_keys[row.kid] = row
        self._renew_keyring()

    def _drop_signing_key(self, kid: str) -> None:
        self.signing_keys.pop(kid, None)
        self._renew_keyring()

    def _renew_keyring(self) -> None:
        """Few keys, seldom changed: all are read anew, under a new stamp."""
        self._keyring.valid = False
        self._keyring = Stamp()
        keys = (usable_key(row, self._keyring) for row in self.signing_keys.values())
        self._usable_keys = {key.kid: key for key in keys if key is not None}

    def _make_tables(self) -> "dict[str, Table]":
        people, catalogue = self.directory, self.catalogue
        return {
            "orgs": Table(people.put_org, people.drop_org),
            "profiles": Table(people.put_profile, people.drop_profile),
            "groups": Table(people.put_group, people.drop_group),
            "roles": Table(people.put_role, people.drop_role),
            "memberships": Table(people.put_membership, people.drop_membership),
            "membership_roles": Table(people.put_membership_role, people.drop_membership_role),
            "membership_groups": Table(people.put_membership_group, people.drop_membership_group),
            "grants": Table(people.put_grant, people.drop_grant),
            "api_keys": Table(people.put_api_key, people.drop_api_key),
            "session_revocations": Table(people.put_revocation, people.drop_revocation),
            "signing_keys": Table(self._put_signing_key, self._drop_signing_key),
            "applications": Table(catalogue.put_application, catalogue.drop_application),
            "application_hosts": Table(catalogue.put_host, catalogue.drop_host),
            "policies": Table(catalogue.put_policy, catalogue.drop_policy),
            "shadow_policies": Table(catalogue.put_shadow, catalogue.drop_shadow),
        }


class Table(NamedTuple):
    """How the rows of one relation are taken and dropped."""

    put: Callable[[Any], None]
    drop: Callable[[Any], None]


_valid = attrgetter("valid")


def _net(changes: Iterable[Change]) -> dict[str, dict[Key, Row | None]]:
    """What each changed row is in the end, checked; None if it is gone. Relations unknown to this version are left out."""
    net: dict[str, dict[Key, Row | None]] = {}
    for relation, op, row in changes:
        if relation in SHAPES:
            net.setdefault(relation, {})[decode_key(relation, row)] = decode(relation, row) if op == "u" else None
    return net
