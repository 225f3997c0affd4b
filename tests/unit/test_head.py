"""Header names and slots."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.contract import IDENTITY_HEADERS
from sidecar.http.head import EMPTY, IGNORED, KEYED, LOOK_ALIKE, Head, Names, Slot, plain, receive

NAMES = Names()


def head(*lines: tuple[bytes, bytes]) -> Head:
    found: Head = EMPTY.copy()
    for name, value in lines:
        receive(found, NAMES, name, value)
    return found


@pytest.mark.parametrize("name", [b"Authorization", b"authorization", b"AUTHORIZATION", b"aUTHORIZATION"])
def test_case_does_not_matter(name):
    for names in (Names(), NAMES, NAMES):
        found: Head = EMPTY.copy()
        receive(found, names, name, b"x")
        assert found[Slot.AUTHORIZATION] == b"x"
        assert names[name] == Slot.AUTHORIZATION


@pytest.mark.parametrize("identity", IDENTITY_HEADERS)
def test_look_alikes_of_identity_headers_are_faults(identity):
    """CVE-2025-64484, GHSA-5m6w-wvh7-57vm: applications on CGI or WSGI read `X_User_Sub` as `X-User-Sub`."""
    for spelling in (
        identity.replace("-", "_"),
        identity.replace("-", "."),
        identity.replace("-", "_", 1).upper(),
        identity.title().replace("-", "_"),
    ):
        assert head((spelling.encode(), b"root"))[Slot.FAULT] == b"header_alias", spelling


@pytest.mark.parametrize("identity", IDENTITY_HEADERS)
def test_the_very_name_is_no_fault(identity):
    """It is replaced by the proxy, as every allow carries it."""
    assert NAMES.learn(identity.encode()) == IGNORED
    assert head((identity.title().encode(), b"root"))[Slot.FAULT] is None


def test_other_names_with_underscores_are_noted_but_no_fault():
    found = head((b"X_Tier", b"gold"), (b"x.other", b"1"))
    assert found[Slot.LOOK_ALIKES] == b"x-tier,x-other"
    assert found[Slot.FAULT] is None


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (b"Host", b"ambiguous_request"),
        (b"X-Forwarded-Uri", b"malformed_request"),
        (b"X-Forwarded-For", b"malformed_request"),
        (b"X-Api-Key", b"malformed_request"),
        (b"Authorization", b"malformed_request"),
        (b"X-Catalyst-Org", b"malformed_request"),
        (b"X-Original-Url", b"malformed_request"),
    ],
)
def test_repeated_headers_are_faults(name, fault):
    assert head((name, b"a"), (name.lower(), b"a"))[Slot.FAULT] == fault


def test_cookies_and_accept_are_joined():
    found = head((b"Cookie", b"a=1"), (b"cookie", b"b=2"), (b"Accept", b"text/html"), (b"Accept", b"*/*"))
    assert (found[Slot.COOKIE], found[Slot.ACCEPT], found[Slot.FAULT]) == (b"a=1; b=2", b"text/html, */*", None)


def test_the_memory_of_names_is_bounded():
    names = Names()
    for number in range(5000):
        assert names.learn(b"x-%d" % number) == IGNORED
    assert names.learn(b"x" * 1000) == IGNORED
    assert len(names) <= 1024
    assert names.learn(b"x_tier") == LOOK_ALIKE
    assert names.learn(b"hOsT") == Slot.HOST
    # Whoever makes names up does not keep those of every request out.
    assert names[b"hOsT"] == Slot.HOST


LINES = st.lists(
    st.tuples(
        st.sampled_from([b"Cookie", b"cookie", b"Accept", b"X_A", b"x.a", b"Host", b"Via", b"X-Request-Id"]),
        st.binary(max_size=4),
    ),
    max_size=6,
)


def readings(lines: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """What an application could see of the headers that count: name → value."""
    seen: dict[bytes, bytes] = {}
    for name, value in lines:
        key = name.lower()
        if key in {b"cookie", b"accept"}:
            seen[key] = seen[key] + (b"; " if key == b"cookie" else b", ") + value if key in seen else value
    return seen


def look_alikes(lines: list[tuple[bytes, bytes]]) -> list[bytes]:
    return [plain(name) for name, _ in lines if b"_" in name or b"." in name]


@given(LINES, LINES)
def test_heads_with_one_key_mean_the_same(one, other):
    """CVE-2026-33496 and its like: two requests that differ in anything an answer depends on must not share a key."""
    first, second = head(*one), head(*other)
    if first[:KEYED] == second[:KEYED]:
        assert readings(one) == readings(other)
        assert look_alikes(one) == look_alikes(other)
