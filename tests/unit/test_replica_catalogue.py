"""Applications by host, their policies and stamps."""

from typing import Any

import pytest

from sidecar.replica.catalogue import Application, OutOfScope
from sidecar.replica.rows import Change
from sidecar.replica.state import State
from tests.adversity.dump import rows_of
from tests.adversity.scene import POLICY

ORDERS = "00000000-0000-0000-0000-000000000001"
WIDE = "00000000-0000-0000-0000-000000000002"


def application(key: str, slug: str, **more: Any) -> Change:
    return Change("applications", "u", {"id": key, "slug": slug, "entitlement_prefixes": [], "assertions": False, **more})


def host(name: str, key: str) -> Change:
    return Change("application_hosts", "u", {"host": name, "application_id": key})


def policy(key: str, version: int = 1, document: object = POLICY) -> Change:
    return Change("policies", "u", {"application_id": key, "version": version, "document": document})


def known(scope: frozenset[str] | None = None) -> State:
    state = State("epoch", 0, scope)
    state.apply(
        1,
        [
            application(ORDERS, "orders"),
            host("orders.example.com", ORDERS),
            policy(ORDERS),
            application(WIDE, "wide"),
            host("*.example.com", WIDE),
            policy(WIDE),
        ],
    )
    return state


def slug_at(state: State, name: str) -> str | None:
    found = state.application(name)
    return found and found.slug


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("orders.example.com", "orders"),
        ("other.example.com", "wide"),
        ("a.orders.example.com", None),
        ("a.b.example.com", None),
        ("example.com", None),
        ("*.example.com", "wide"),
        ("", None),
        ("localhost", None),
    ],
)
def test_a_wildcard_stands_for_one_label_and_exact_comes_first(name: str, slug: str | None) -> None:
    assert slug_at(known(), name) == slug


@pytest.mark.parametrize(
    ("changes", "dead"),
    [
        ([application(ORDERS, "orders", assertions=True)], {"orders"}),
        ([policy(ORDERS, 2)], {"orders"}),
        ([Change("policies", "d", {"application_id": ORDERS})], {"orders"}),
        ([host("new.orders.example.com", ORDERS)], {"orders"}),
        ([host("taken.example.com", ORDERS)], {"orders", "wide"}),
        ([host("orders.example.com", WIDE)], {"orders", "wide"}),
        ([Change("application_hosts", "d", {"host": "orders.example.com"})], {"orders"}),
        ([Change("application_hosts", "d", {"host": "*.example.com"})], {"wide"}),
        ([Change("applications", "d", {"id": WIDE}), Change("application_hosts", "d", {"host": "*.example.com"})], {"wide"}),
        ([Change("orgs", "u", {"id": WIDE, "slug": "acme", "status": "active"})], set()),
    ],
)
def test_the_stamps_of_who_answered_before_and_who_answers_now_die(changes: list[Change], dead: set[str]) -> None:
    state = known()
    stamps = {slug: state.application(name).stamp for slug, name in (("orders", "orders.example.com"), ("wide", "x.example.com"))}  # type: ignore[union-attr]
    state.apply(2, changes)
    assert {slug for slug, stamp in stamps.items() if not stamp.valid} == dead


def test_a_host_may_move_within_the_transaction_that_removes_its_application() -> None:
    state = known()
    state.apply(2, [Change("applications", "d", {"id": ORDERS}), host("orders.example.com", WIDE)])
    assert slug_at(state, "orders.example.com") == "wide"
    assert len(state.catalogue.applications) == 1


@pytest.mark.parametrize("document", [None, [], "x", {"version": 1, "rules": 5}, {"version": 99, "rules": []}])
def test_an_unreadable_policy_is_none_and_takes_nobody_else_along(document: object) -> None:
    state = known()
    state.apply(2, [policy(ORDERS, 2, document)])
    orders, wide = state.application("orders.example.com"), state.application("x.example.com")
    assert isinstance(orders, Application)
    assert isinstance(wide, Application)
    assert orders.policy is None
    assert wide.policy is not None
    assert set(state.catalogue.unreadable) == {"orders"}
    state.apply(3, [policy(ORDERS, 3)])
    assert orders.policy is not None
    assert state.catalogue.unreadable == {}


def test_an_error_in_the_reader_itself_denies_too() -> None:
    def broken(*_: object) -> Any:
        raise RecursionError

    state = State("epoch", 0, None, broken)
    state.apply(1, [application(ORDERS, "orders"), host("orders.example.com", ORDERS), policy(ORDERS)])
    found = state.application("orders.example.com")
    assert found is not None
    assert found.policy is None
    assert state.catalogue.unreadable == {"orders": "RecursionError while reading the policy"}


def test_out_of_scope_nothing_is_kept() -> None:
    state = known(frozenset({"orders"}))
    assert slug_at(state, "x.example.com") is None
    rows = rows_of(state)
    assert (len(rows["applications"]), len(rows["application_hosts"]), len(rows["policies"])) == (1, 1, 1)
    with pytest.raises(OutOfScope):
        state.apply(2, [application(WIDE, "orders-too"), application(WIDE, "orders")])


def test_an_application_that_leaves_the_scope_is_forgotten() -> None:
    state = known(frozenset({"orders"}))
    stamp = state.application("orders.example.com").stamp  # type: ignore[union-attr]
    state.apply(2, [application(ORDERS, "renamed"), host("more.example.com", ORDERS), policy(ORDERS, 2)])
    assert not stamp.valid
    assert state.application("orders.example.com") is None
    assert state.application("more.example.com") is None


def test_no_wildcard_answers_for_hosts_of_applications_out_of_scope() -> None:
    """Else a sidecar for some applications would allow by their rules what another one's refuse."""
    state = known(frozenset({"wide"}))
    assert slug_at(state, "orders.example.com") is None
    stamp = state.application("more.example.com").stamp  # type: ignore[union-attr]
    state.apply(2, [host("more.example.com", ORDERS)])
    assert not stamp.valid
    assert (slug_at(state, "more.example.com"), slug_at(state, "other.example.com")) == (None, "wide")
    # Given up, or given to the wildcard's own application.
    state.apply(3, [Change("application_hosts", "d", {"host": "more.example.com"}), host("orders.example.com", WIDE)])
    assert (slug_at(state, "more.example.com"), slug_at(state, "orders.example.com")) == ("wide", "wide")


def test_an_application_that_leaves_the_scope_leaves_no_host_to_a_wildcard() -> None:
    state = known(frozenset({"orders", "wide"}))
    state.apply(2, [application(ORDERS, "renamed")])
    assert (slug_at(state, "orders.example.com"), slug_at(state, "other.example.com")) == (None, "wide")
    # Its rows go with it.
    gone = [Change("application_hosts", "d", {"host": "orders.example.com"}), Change("applications", "d", {"id": ORDERS})]
    state.apply(3, gone)
    assert slug_at(state, "orders.example.com") == "wide"


def test_a_retired_state_knows_no_host_and_kills_its_stamps() -> None:
    state = known()
    stamp = state.application("orders.example.com").stamp  # type: ignore[union-attr]
    state.retire()
    assert not stamp.valid
    assert state.application("orders.example.com") is None
