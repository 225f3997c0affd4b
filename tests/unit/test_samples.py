"""The sample of decisions: bounded, fair, counted, and without anything that does not belong in it."""

from collections import Counter
from ipaddress import ip_address
from random import Random

import orjson
import pytest

from sidecar.identity.membership import Member
from sidecar.policy.model import ANONYMOUS, FOREVER, CanonicalRequest, Decision, Effect, Kind, Principal
from sidecar.replica.catalogue import Application, Shadow, read_policy
from sidecar.replica.rows import ShadowRow
from sidecar.samples import MOST_KEYS, Sampled, Samples

NOW = 1_800_000_000.0
NOBODY = Member(ANONYMOUS, FOREVER, ())
ALLOWED = Decision(Effect.ALLOW, "policy.rule.all.allow", "all")
ALL = {"version": 1, "rules": [{"id": "all", "effect": "allow", "paths": ["/**"], "when": {"anonymous": True}}]}
PROFILE, ORG = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"


def application(number: int = 7, document: object = None) -> Application:
    found = Application(number)
    if document is not None:
        found.shadow = Shadow(ShadowRow(number, "draft-1", document), read_policy(document), "")
    return found


def asked(path: str = "/a", client: str = "192.0.2.1") -> CanonicalRequest:
    return CanonicalRequest("GET", "https", "shop.example.com", path, tuple(path[1:].split("/")), ip_address(client))


def note(samples: Samples, where: Application, path: str = "/a", member: Member = NOBODY, decision: Decision = ALLOWED) -> None:
    samples.note(NOW, where, 7, asked(path), member, decision)


def counts(samples: Samples) -> dict[tuple[str, str], tuple[int, int, int, int]]:
    taken = samples.take_counts()
    samples.give_back(taken)
    return {key: (count.seen, count.differing, count.failed, count.lost) for key, count in taken.items()}


# --- how much -------------------------------------------------------------------------------------------------------------------


def test_every_decision_has_the_same_chance():
    random, drawn = Random(1), Counter[str]()
    samples = Samples(10, random.random)
    shop = application()
    for _ in range(600):
        for number in range(100):
            note(samples, shop, f"/{number}")
        drawn.update(each.request.path for each in samples.draw())
    assert drawn.total() == 6_000
    assert len(drawn) == 100
    assert all(24 < times < 96 for times in drawn.values()), drawn  # 60 each, within five standard deviations


def test_what_finds_no_room_is_counted_by_application():
    samples = Samples(10)
    busy, quiet = application(7), application(8)
    for _ in range(90):
        note(samples, busy)
    for _ in range(10):
        note(samples, quiet)
    assert samples.lost == 90
    drawn = Counter(each.application.id for each in samples.draw())
    assert drawn.total() == 10
    lost = {key[0]: count[3] for key, count in counts(samples).items()}
    assert {where.id: drawn[where.id] + lost.get(where.id, 0) for where in (busy, quiet)} == {busy.id: 90, quiet.id: 10}
    assert samples.lost == 90


def test_none_are_kept_where_none_are_wanted():
    samples = Samples(0)
    for where in (application(), application(8, {"version": 1, "rules": ALL["rules"]})):
        note(samples, where)
        note(samples, where, decision=Decision())
    assert (samples.draw(), samples.lost) == ([], 0)
    assert counts(samples) == {(application(8).id, "draft-1"): (2, 1, 0, 0)}


def test_differences_come_first():
    samples, where = Samples(10), application(7, ALL)
    for number in range(100):
        note(samples, where, f"/same/{number}")
    for number in range(4):
        note(samples, where, f"/other/{number}", decision=Decision())
    drawn = samples.draw()
    assert [each.differs for each in drawn] == [True] * 4 + [False] * 6
    assert counts(samples) == {(where.id, "draft-1"): (104, 4, 0, 94)}
    for number in range(20):
        note(samples, where, f"/other/{number}", decision=Decision())
    assert len(samples.draw()) == 10
    assert samples.lost == 104


def test_keys_in_use_are_bounded():
    samples, where = Samples(0), application()
    for number in range(MOST_KEYS + 5):
        note(samples, where, member=NOBODY._replace(api_key=number))
    note(samples, where, member=NOBODY._replace(api_key=3))
    assert (len(samples.uses), samples.uses_lost) == (MOST_KEYS, 5)


# --- shadows --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "live",
    [
        Decision(),
        Decision(Effect.ALLOW, "another", "all"),
        Decision(Effect.ALLOW, ALLOWED.reason, "all", {"mask": ["email"]}),
        Decision(Effect.ALLOW, ALLOWED.reason, "all", headers={"x-tier": "gold"}),
    ],
)
def test_what_somebody_would_notice_is_a_difference(live):
    samples, where = Samples(10), application(7, ALL)
    note(samples, where, decision=live)
    (drawn,) = samples.draw()
    assert drawn.differs
    assert (samples.same, samples.differing, samples.failed) == (0, 1, 0)
    told = orjson.loads(drawn.row())
    assert told["shadow_differs"] is True
    assert (told["effect"], told["shadow_effect"]) == (live.effect, "allow")
    assert (told["shadow_etag"], told["shadow_rule"]) == ("draft-1", "all")


def test_nobody_notices_the_name_of_a_rule_or_how_long_it_holds():
    samples, where = Samples(10), application(7, ALL)
    note(samples, where, decision=Decision(Effect.ALLOW, ALLOWED.reason, "renamed", until=NOW + 1))
    assert (samples.same, samples.differing) == (1, 0)


def test_a_draft_that_breaks_the_engine_is_counted_and_told_once(monkeypatch, caplog):
    def broken(*_: object) -> Decision:
        raise RecursionError

    monkeypatch.setattr("sidecar.samples.decide", broken)
    samples, where = Samples(10), application(7, ALL)
    for _ in range(3):
        note(samples, where)
    assert counts(samples) == {(where.id, "draft-1"): (3, 0, 3, 0)}
    assert [record.message for record in caplog.records] == ["shadow failed"]
    assert [orjson.loads(each.row())["shadow_etag"] for each in samples.draw()] == [None] * 3


def test_noting_never_raises():
    samples = Samples(10)
    samples.note(NOW, None, 7, None, NOBODY, None)  # type: ignore[arg-type]
    assert samples.lost == 1


# --- what is told ---------------------------------------------------------------------------------------------------------------


def test_a_row_holds_these_and_nothing_else():
    principal = Principal(
        kind=Kind.API_KEY, sub=PROFILE, email="canary@example.com", org_id=ORG, org_slug="canary", session_id="canary",
        groups=frozenset({"canary"}), roles=frozenset({"canary"}), entitlements=frozenset({"canary:read"}),
        scopes=frozenset({"b", "a"}), labels={"canary": "canary"}, amr=frozenset({"pwd"}), acr="urn:x", auth_time=17,
    )  # fmt: skip
    decision = Decision(Effect.ALLOW, "why", "rule", {"canary": 1}, {"x-canary": "canary"})
    shop = application()
    shop.slug = "canary"
    row = Sampled(NOW, shop, 7, asked("/a%20b", "fe80::1%eth0"), Member(principal, FOREVER, (), 0xA), decision).row()
    assert b"canary" not in row
    assert orjson.loads(row) == {
        "at": NOW, "application_id": shop.id, "revision": 7, "kind": "api_key", "profile_id": PROFILE, "org_id": ORG,
        "api_key_id": "00000000-0000-0000-0000-00000000000a", "scopes": ["a", "b"], "amr": ["pwd"], "acr": "urn:x", "auth_time": 17,
        "method": "GET", "scheme": "https", "host": "shop.example.com", "path": "/a%20b", "client": "fe80::1",
        "effect": "allow", "reason": "why", "rule": "rule", "shadow_etag": None, "shadow_effect": None, "shadow_reason": None,
        "shadow_rule": None, "shadow_differs": False,
    }  # fmt: skip


@pytest.mark.parametrize("unfit", ["/" + "x" * 4000, "/nul\x00", "/\udcff"])
def test_what_the_database_could_not_take_is_given_up_alone(unfit):
    samples, where = Samples(10), application()
    note(samples, where, unfit)
    note(samples, where, "/fit")
    rows = [samples.row(each) for each in samples.draw()]
    assert [row and orjson.loads(row)["path"] for row in rows] == [None, "/fit"]
    assert samples.lost == 1
