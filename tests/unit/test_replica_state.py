"""The state against a naive reading of the rows: after any transactions, the same answers, and only the right stamps dead."""

import hashlib
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.replica.kept import Stamp
from sidecar.replica.rows import SHAPES, BadRow, Change
from sidecar.replica.state import Effective, Inconsistent, State
from tests.adversity.dump import rows_of, written

Row = dict[str, Any]
EXPIRIES = (None, None, 50.0, 150.0)
ENTITLEMENTS = ("orders:read", "orders:write", "billing:read")
STATUSES = ("active", "active", "active", "suspended", "archived")
KEYS = {"membership_roles": ("membership_id", "role_id"), "membership_groups": ("membership_id", "group_id")}
REFERENCES = {
    "groups": {"org_id": "orgs"},
    "roles": {"org_id": "orgs"},
    "memberships": {"org_id": "orgs", "profile_id": "profiles"},
    "membership_roles": {"membership_id": "memberships", "role_id": "roles"},
    "membership_groups": {"membership_id": "memberships", "group_id": "groups"},
    "grants": {"org_id": "orgs"},
    "api_keys": {"org_id": "orgs", "profile_id": "profiles"},
}
SUBJECTS = {"org": "orgs", "group": "groups", "role": "roles", "membership": "memberships", "profile": "profiles"}


def uuid(kind: int, number: int) -> str:
    return str(UUID(int=(kind << 64) + number + 1))


def key_of(relation: str, row: Row) -> tuple[str, ...]:
    return tuple(row[column] for column in KEYS.get(relation, (next(iter(SHAPES[relation].readers)),)))


class Rows:
    """The rows as the database would have them: foreign keys hold, deletes cascade, every change is written down."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[tuple[str, ...], Row]] = {relation: {} for relation in SHAPES}
        self.changes: list[Change] = []
        self.orgs_touched: set[str] = set()
        self.profiles_touched: set[str] = set()

    def begin(self) -> None:
        self.changes, self.orgs_touched, self.profiles_touched = [], set(), set()

    def put(self, relation: str, row: Row) -> None:
        before = self.tables[relation].get(key_of(relation, row))
        if before == row:
            return
        if before is not None:
            self._touch(relation, before)
        self.tables[relation][key_of(relation, row)] = row
        self._touch(relation, row)
        self.changes.append(Change(relation, "u", row))

    def delete(self, relation: str, key: tuple[str, ...]) -> None:
        row = self.tables[relation][key]
        self._touch(relation, row)
        for table, references in REFERENCES.items():
            for column, target in references.items():
                if target == relation:
                    self._delete_where(table, lambda other, column=column: other[column] == key[0])
        self._delete_where("grants", lambda other: SUBJECTS[other["subject_kind"]] == relation and other["subject_id"] == key[0])
        if relation == "groups":
            for child in [row for row in self.tables["groups"].values() if row["parent_id"] == key[0]]:
                self.put("groups", {**child, "parent_id": None})
        del self.tables[relation][key]
        columns = KEYS.get(relation, (next(iter(SHAPES[relation].readers)),))
        self.changes.append(Change(relation, "d", dict(zip(columns, key, strict=True))))

    def _delete_where(self, relation: str, condition: Any) -> None:
        for key in [key for key, row in self.tables[relation].items() if condition(row)]:
            if key in self.tables[relation]:
                self.delete(relation, key)

    def _touch(self, relation: str, row: Row) -> None:
        """Whose results a change of this row can alter, said once more and without the replica's code."""
        if relation == "orgs":
            self.orgs_touched.add(row["id"])
        elif relation in {"groups", "roles"} or (relation == "grants" and row["subject_kind"] in {"org", "group", "role"}):
            self.orgs_touched.add(row["org_id"])
        elif relation == "profiles":
            self.profiles_touched.add(row["id"])
        elif relation in {"memberships", "api_keys", "session_revocations"}:
            self.profiles_touched.add(row["profile_id"])
        elif relation == "grants" and row["subject_kind"] == "profile":
            self.profiles_touched.add(row["subject_id"])
        else:
            membership = self.tables["memberships"][(row.get("membership_id") or row["subject_id"],)]
            self.profiles_touched.add(membership["profile_id"])

    def effective(self, profile_id: str, org_id: str, now: float) -> tuple[set[str], set[str], set[str]] | None:
        tables = self.tables
        membership = self.membership(profile_id, org_id)
        if membership is None:
            return None
        if {tables["profiles"][(profile_id,)]["status"], tables["orgs"][(org_id,)]["status"]} != {"active"}:
            return set(), set(), set()
        roles = {link["role_id"] for link in tables["membership_roles"].values() if link["membership_id"] == membership["id"]}
        groups = {link["group_id"] for link in tables["membership_groups"].values() if link["membership_id"] == membership["id"]}
        for _ in tables["groups"]:
            groups |= {tables["groups"][(group,)]["parent_id"] for group in groups} - {None}
        subjects = roles | groups | {org_id, profile_id, membership["id"]}
        entitlements = {
            grant["entitlement"]
            for grant in tables["grants"].values()
            if grant["org_id"] == org_id
            and grant["subject_id"] in subjects
            and (grant["expires_at"] is None or grant["expires_at"] > now)
        }
        return (
            {tables["groups"][(group,)]["slug"] for group in groups},
            {tables["roles"][(role,)]["slug"] for role in roles},
            entitlements,
        )

    def membership(self, profile_id: str, org_id: str) -> Row | None:
        rows = self.tables["memberships"].values()
        return next((row for row in rows if (row["profile_id"], row["org_id"]) == (profile_id, org_id)), None)


class Dice:
    """Random rows that the database would take, and random transactions of them.

    One seed from hypothesis, the rest from it: hundreds of draws a case through hypothesis itself are a hundred times slower.
    """

    def __init__(self, rows: Rows, seed: int) -> None:
        self.rows = rows
        self.random = Random(seed)

    def crowd(self) -> list[Change]:
        """A transaction that fills most of the places there are."""
        return self.transaction(200, 0.01)

    def transaction(self, steps: int, removals: float = 0.25) -> list[Change]:
        self.rows.begin()
        for _ in range(steps):
            relation = self.random.choice(OFTEN)
            if self.rows.tables[relation] and self.random.random() < removals:
                self.rows.delete(relation, self.random.choice(sorted(self.rows.tables[relation])))
            elif (row := getattr(self, relation)()) is not None:
                self.rows.put(relation, row)
        return self.in_some_order(self.rows.changes)

    def in_some_order(self, changes: list[Change]) -> list[Change]:
        """Triggers of different tables fire in an order of their own; only the order of one row's changes is sure."""
        keys = sorted({_identity(change) for change in changes})
        order = {key: place for place, key in enumerate(self.random.sample(keys, len(keys)))}
        return sorted(changes, key=lambda change: order[_identity(change)])

    def some(self, table: str, **where: str) -> Row | None:
        found = [row for row in self.rows.tables[table].values() if all(row[name] == value for name, value in where.items())]
        return self.random.choice(found) if found else None

    def orgs(self) -> Row:
        number = self.random.randrange(4)
        slug = f"org-{number}-{self.random.randrange(2)}"
        return {"id": uuid(1, number), "slug": slug, "status": self.random.choice(STATUSES)}

    def profiles(self) -> Row:
        number = self.random.randrange(4)
        return {
            "id": uuid(2, number),
            "kind": "user",
            "email": self.random.choice([None, f"p{number}@example.com"]),
            "status": self.random.choice(STATUSES),
            "labels": self.random.choice([{}, {"plan": "pro"}]),
            "not_before": self.random.choice([None, 5.0]),
        }

    def roles(self) -> Row | None:
        if (org := self.some("orgs")) is None:
            return None
        number = self.random.randrange(3)
        slug = f"role-{number}-{self.random.randrange(2)}"
        return {"id": uuid(4, int(org["id"][-1]) * 10 + number), "org_id": org["id"], "slug": slug}

    def groups(self) -> Row | None:
        if (org := self.some("orgs")) is None:
            return None
        number = self.random.randrange(4)
        row_id, parent = uuid(3, int(org["id"][-1]) * 10 + number), self.some("groups", org_id=org["id"])
        parent_id = parent["id"] if parent and parent["id"] != row_id and self.random.random() < 0.6 else None
        return {"id": row_id, "org_id": org["id"], "slug": f"group-{number}-{self.random.randrange(2)}", "parent_id": parent_id}

    def memberships(self) -> Row | None:
        org, profile = self.some("orgs"), self.some("profiles")
        if org is None or profile is None or self.rows.membership(profile["id"], org["id"]):
            return None
        return {"id": uuid(5, self.random.randrange(10**6)), "org_id": org["id"], "profile_id": profile["id"]}

    def membership_roles(self) -> Row | None:
        return self.link("roles")

    def membership_groups(self) -> Row | None:
        return self.link("groups")

    def link(self, table: str) -> Row | None:
        membership = self.some("memberships")
        other = membership and self.some(table, org_id=membership["org_id"])
        return {"membership_id": membership["id"], f"{table[:-1]}_id": other["id"]} if membership and other else None

    def grants(self) -> Row | None:
        kind = self.random.choice(sorted(SUBJECTS))
        subject, org = self.some(SUBJECTS[kind]), self.some("orgs")
        if subject is None or org is None:
            return None
        return {
            "id": uuid(6, self.random.randrange(16)),
            "org_id": subject["id"] if kind == "org" else subject.get("org_id", org["id"]),
            "subject_kind": kind,
            "subject_id": subject["id"],
            "entitlement": self.random.choice(ENTITLEMENTS),
            "expires_at": self.random.choice(EXPIRIES),
        }

    def api_keys(self) -> Row | None:
        if (membership := self.some("memberships")) is None:
            return None
        number = self.random.randrange(4)
        return {
            "id": f"{number:032x}",
            "org_id": membership["org_id"],
            "profile_id": membership["profile_id"],
            "sha256": hashlib.sha256(bytes([number])).hexdigest(),
            "scopes": ["orders"],
            "entitlements": self.random.choice([None, ["orders:read"]]),
            "expires_at": self.random.choice(EXPIRIES),
            "revoked": self.random.random() < 0.5,
        }

    def session_revocations(self) -> Row:
        return {
            "session_id": uuid(9, self.random.randrange(4)),
            "profile_id": uuid(2, self.random.randrange(4)),
            "until": 300.0,
        }


RELATIONS = [relation for relation in SHAPES if hasattr(Dice, relation)]
OFTEN = [*RELATIONS, *("memberships", "membership_roles", "membership_groups", "grants", "grants") * 3]


def _identity(change: Change) -> tuple[str, tuple[str, ...]]:
    return change.relation, key_of(change.relation, dict(change.row))


PAIRS = [(uuid(2, profile), uuid(1, org)) for profile in range(4) for org in range(4)]


def answers(state: State, now: float) -> dict[tuple[str, str], Effective | None]:
    return {pair: state.effective(*pair, now) for pair in PAIRS}


def sets(effective: Effective | None) -> tuple[set[str], set[str], set[str]] | None:
    return effective and (set(effective.groups), set(effective.roles), set(effective.entitlements))


def loaded(rows: Rows, revision: int) -> State:
    state = State("epoch", revision)
    for relation in SHAPES:
        state.load(relation, rows.tables[relation].values())
    state.settle()
    return state


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), transactions=st.integers(1, 12), size=st.integers(1, 12), step=st.sampled_from([0, 10, 40]))
def test_any_changes_give_what_the_rows_say(seed: int, transactions: int, size: int, step: float) -> None:
    rows, state = Rows(), State("epoch", 0)
    dice = Dice(rows, seed)
    state.apply(1, dice.crowd())
    for revision in range(2, 2 + transactions):
        now = revision * step
        before = answers(state, now)
        said = {pair: rows.effective(*pair, now) for pair in PAIRS}
        state.apply(revision, dice.transaction(size))
        for pair, kept in before.items():
            still = kept is not None and all(stamp.valid for stamp in kept.stamps)
            if still:
                assert said[pair] == rows.effective(*pair, now), "a result that changed was not given up"
            if kept is not None and pair[0] not in rows.profiles_touched and pair[1] not in rows.orgs_touched:
                assert still, "a result that nothing touched was given up"
        for later in (now, now + step / 2):
            for pair, found in answers(state, later).items():
                assert sets(found) == rows.effective(*pair, later)
    wanted = {relation: written(table.values()) for relation, table in rows.tables.items()}
    assert rows_of(state) == wanted
    places = [place for org in state.directory.orgs.values() for place in org.places.values()]
    assert all(place.members for place in places)
    assert sum(place.members for place in places) == len(rows.tables["memberships"])
    from_snapshot = loaded(rows, state.revision)
    assert rows_of(from_snapshot) == wanted
    for pair, found in answers(from_snapshot, 0).items():
        assert sets(found) == rows.effective(*pair, 0)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_until_is_when_the_answer_changes(seed: int) -> None:
    rows, state = Rows(), State("epoch", 0)
    state.apply(1, Dice(rows, seed).crowd())
    for pair, found in answers(state, 0.0).items():
        if found is not None and found.until < 1000:
            assert rows.effective(*pair, found.until - 1) == sets(found)
            assert state.effective(*pair, found.until - 1) is found
            assert state.effective(*pair, found.until) is not found


# --- small, by hand -------------------------------------------------------------------------------------------------------------

ORG = {"id": uuid(1, 0), "slug": "acme", "status": "active"}
PROFILE = {"id": uuid(2, 0), "kind": "user", "email": "a@example.com", "status": "active", "labels": {}, "not_before": None}
MEMBERSHIP = {"id": uuid(5, 0), "org_id": ORG["id"], "profile_id": PROFILE["id"]}
GRANT = {
    "id": uuid(6, 0),
    "org_id": ORG["id"],
    "subject_kind": "org",
    "subject_id": ORG["id"],
    "entitlement": "orders:read",
    "expires_at": None,
}


def member() -> State:
    state = State("epoch", 0)
    rows = {"orgs": ORG, "profiles": PROFILE, "memberships": MEMBERSHIP, "grants": GRANT}
    state.apply(1, [Change(relation, "u", row) for relation, row in rows.items()])
    return state


@pytest.mark.parametrize(
    ("error", "last"),
    [
        (BadRow, Change("orgs", "u", {"id": uuid(1, 1), "slug": "b"})),
        (BadRow, Change("orgs", "u", {"id": uuid(1, 1).upper().replace("0", "A"), "slug": "b", "status": "active"})),
        (BadRow, Change("orgs", "d", {})),
        (BadRow, Change("api_keys", "u", {"id": "f" * 31})),
        (Inconsistent, Change("memberships", "u", {**MEMBERSHIP, "id": uuid(5, 1), "org_id": uuid(1, 3)})),
        (Inconsistent, Change("grants", "u", {**GRANT, "id": uuid(6, 1), "subject_kind": "planet"})),
    ],
)
def test_a_transaction_that_cannot_be_applied_kills_the_state(error: type[Exception], last: Change) -> None:
    state = member()
    kept = state.effective(PROFILE["id"], ORG["id"], 0)
    assert kept is not None
    with pytest.raises(error):
        state.apply(2, [Change("orgs", "u", {**ORG, "slug": "other"}), last])
    assert state.revision == 1
    assert not state.alive.valid
    assert not all(stamp.valid for stamp in kept.stamps)
    assert state.effective(PROFILE["id"], ORG["id"], 0) is None
    assert state.org_by_slug("other") is None
    assert state.org_by_slug("acme") is None
    with pytest.raises(Inconsistent):
        state.apply(2, [])


def test_a_bad_row_is_named_without_its_values() -> None:
    with pytest.raises(BadRow) as caught:
        member().apply(2, [Change("profiles", "u", {**PROFILE, "labels": "secret-canary"})])
    assert "profiles.labels" in str(caught.value)
    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("revision", [0, 1, 3])
def test_only_the_next_revision_can_be_applied(revision: int) -> None:
    with pytest.raises(Inconsistent):
        member().apply(revision, [])


def test_kept_results_are_the_same_object_until_something_changes() -> None:
    state = member()
    first = state.effective(PROFILE["id"], ORG["id"], 0)
    state.apply(2, [Change("orgs", "u", {"id": uuid(1, 1), "slug": "beta", "status": "active"})])
    assert state.effective(PROFILE["id"], ORG["id"], 0) is first
    state.apply(3, [Change("grants", "d", {"id": GRANT["id"]})])
    second = state.effective(PROFILE["id"], ORG["id"], 0)
    assert second is not first
    assert second is not None
    assert second.entitlements == frozenset()


KEY = {
    "id": "0" * 32,
    "org_id": ORG["id"],
    "profile_id": PROFILE["id"],
    "sha256": "00" * 32,
    "scopes": [],
    "entitlements": None,
    "expires_at": None,
    "revoked": False,
}
REVOCATION = {"session_id": uuid(9, 0), "profile_id": PROFILE["id"], "until": 300.0}
OF_PROFILE = {**GRANT, "id": uuid(6, 1), "subject_kind": "profile", "subject_id": PROFILE["id"]}
OF_MEMBERSHIP = {**GRANT, "id": uuid(6, 2), "subject_kind": "membership", "subject_id": MEMBERSHIP["id"]}


@pytest.mark.parametrize(
    ("relation", "row", "again", "whose"),
    [
        ("orgs", ORG, {"status": "suspended"}, "org"),
        ("groups", {"id": uuid(3, 0), "org_id": ORG["id"], "slug": "eu", "parent_id": None}, {"slug": "us"}, "org"),
        ("roles", {"id": uuid(4, 0), "org_id": ORG["id"], "slug": "admin"}, {"slug": "clerk"}, "org"),
        ("grants", GRANT, {"expires_at": 5.0}, "org"),
        ("grants", OF_PROFILE, {"expires_at": 5.0}, "profile"),
        ("grants", OF_MEMBERSHIP, {"expires_at": 5.0}, "profile"),
        ("profiles", PROFILE, {"not_before": 5.0}, "profile"),
        ("memberships", MEMBERSHIP, {}, "profile"),
        ("api_keys", KEY, {"revoked": True}, "profile"),
        ("session_revocations", REVOCATION, {"until": 400.0}, "profile"),
    ],
)
def test_each_change_kills_the_one_stamp_it_should(relation: str, row: Row, again: Row, whose: str) -> None:
    """When the row comes, when it changes, when it goes; nobody else's stamps."""
    state = member()
    others = [state.directory.orgs, state.directory.profiles]
    state.apply(
        2, [Change("orgs", "u", {**ORG, "id": uuid(1, 1), "slug": "b"}), Change("profiles", "u", {**PROFILE, "id": uuid(2, 1)})]
    )
    org, profile = state.org(ORG["id"]), state.profile(PROFILE["id"])
    assert org is not None
    assert profile is not None
    for revision, change in enumerate(
        [Change(relation, "u", row), Change(relation, "u", {**row, **again}), Change(relation, "d", row)], 3
    ):
        mine, other = (org.stamp, profile.stamp) if whose == "org" else (profile.stamp, org.stamp)
        bystanders = [thing.stamp for table in others for thing in table.values() if thing not in (org, profile)]
        state.apply(revision, [change])
        assert not mine.valid
        assert other.valid
        assert len(bystanders) == 2
        assert all(stamp.valid for stamp in bystanders)


def test_latest_dies_with_every_revision() -> None:
    state = member()
    stamp: Stamp = state.latest
    state.apply(2, [])
    assert not stamp.valid
    assert state.latest.valid


@pytest.mark.parametrize(
    "text", ["", "acme", uuid(2, 0).upper(), uuid(2, 0).replace("-", ""), "{" + uuid(2, 0) + "}", uuid(2, 0) + "\n"]
)
def test_only_the_canonical_text_of_an_id_finds_anything(text: str) -> None:
    state = member()
    assert state.profile(uuid(2, 0)) is not None
    if text != uuid(2, 0):
        assert state.profile(text) is None
        assert state.org(text) is None
        assert state.effective(text, ORG["id"], 0) is None


def test_relations_of_a_later_version_are_left_alone() -> None:
    state = member()
    state.apply(2, [Change("planets", "u", {"id": 1}), Change("orgs", "u", {**ORG, "mood": "fine"})])
    assert state.revision == 2


def test_kept_results_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.replica.state.EFFECTIVE_CACHE", 2)
    state = member()
    for number in range(1, 8):
        profile = {**PROFILE, "id": uuid(2, number)}
        membership = {**MEMBERSHIP, "id": uuid(5, number), "profile_id": profile["id"]}
        state.apply(number + 1, [Change("profiles", "u", profile), Change("memberships", "u", membership)])
        assert state.effective(profile["id"], ORG["id"], 0) is not None
    assert len(state._young) + len(state._old) <= 4
