"""The list of events is that of the code: nothing is left out, nothing is there that nothing writes."""

import re
from pathlib import Path

import pytest

from control_plane import events

SOURCE = "\n".join(
    path.read_text()
    for path in Path("control_plane").rglob("*")
    if path.suffix in {".py", ".sql"} and path.name not in {"events.py", "administrators.py"}
)


def test_every_kind_of_thing_that_is_recorded_is_in_it_and_no_other() -> None:
    assert set(re.findall(r'Resource\(\s*"(\w+)"', SOURCE)) == set(events.EVENTS)
    assert set(events.EVENTS) >= events.OF_THE_PLATFORM


def test_nothing_is_in_it_that_is_never_written() -> None:
    """Verbs that `Change` writes by itself, others as the code names them, those of SQL with their kind."""
    for kind, verbs in events.EVENTS.items():
        for verb in verbs:
            assert verb in {"created", "updated", "deleted"} or f'"{verb}"' in SOURCE or f"'{kind}.{verb}'" in SOURCE, (
                kind,
                verb,
            )


def test_what_sql_writes_is_in_it() -> None:
    for kind, verb in re.findall(r"'(\w+)\.(\w+)'", SOURCE):
        assert kind not in events.EVENTS or verb in events.EVENTS[kind], (kind, verb)


@pytest.mark.parametrize(
    ("kind", "verb", "of_an_org"), [("grant", "granted", True), ("nobody", "created", False), ("policy", "published", True)]
)
def test_what_nobody_could_hear_of_is_not_written(kind: str, verb: str, of_an_org: bool) -> None:
    with pytest.raises(RuntimeError, match=f"{kind}.{verb}"):
        events.require(kind, verb, of_an_org=of_an_org)


def test_what_is_in_it_matches_itself() -> None:
    assert events.unknown("*") is None
    for kind, verbs in events.EVENTS.items():
        assert events.unknown(f"{kind}.*") is None
        for verb in verbs:
            assert events.unknown(f"{kind}.{verb}") is None
            events.require(kind, verb, of_an_org=False)


@pytest.mark.parametrize(
    "pattern", ["", "**", "grant", "grant.", ".created", "*.created", "grant.created.*", "Grant.created", "grants.*"]
)
def test_what_matches_nothing_is_told_so(pattern: str) -> None:
    assert str(events.unknown(pattern)).startswith("No event is called that.")
