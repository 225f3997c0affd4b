"""What an event hashes is the same text in PostgreSQL and in Python, for whatever JSON it holds."""

import json
from typing import Any

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_plane.audit import chain

texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["\x7f", "\x1f\t\b\f\n\r", '"\\/', "\u2028\ufeff", "ß", "\u017f", "\U0001d54f", "", "e\u0301"]
)
numbers = st.sampled_from(
    ["0", "-0", "1.50", "1e5", "1E-7", "-0.0", "123456789012345678901234567890", "0.1e1", "1e-130", "3.0000", "1e20"]
) | (st.integers() | st.floats(allow_nan=False, allow_infinity=False)).map(json.dumps)
written = st.recursive(
    st.sampled_from(["null", "true", "false"]) | numbers | texts.map(json.dumps),
    lambda inner: (
        st.lists(inner, max_size=5).map(lambda items: f"[{','.join(items)}]")
        | st.dictionaries(texts, inner, max_size=6).map(
            lambda members: "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in members.items()) + "}"
        )
    ),
    max_leaves=20,
)


def test_the_text_of_any_json(database: Any) -> None:
    with psycopg.connect(database.admin_url) as admin:

        @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(written, min_size=20, max_size=60))
        def same(values: list[str]) -> None:
            rows = admin.execute("SELECT (v::jsonb)::text FROM unnest(%s::text[]) AS v", [values]).fetchall()
            for (theirs,) in rows:
                parsed = chain.parse(f'{{"value": {theirs}}}')["value"]
                assert chain.jsonb_text(parsed) == theirs
                # Whatever wrote the line anew, with other spaces and in another order, the text stays.
                again = chain.parse(f'{{"value":{reordered(parsed)}}}')["value"]
                assert chain.jsonb_text(again) == theirs

        same()


def reordered(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)} :{reordered(value[name])}" for name in reversed(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(reordered, value)) + "]"
    return str(value) if isinstance(value, chain.Number) else json.dumps(value)


def test_the_hash_of_an_event_is_the_databases(database: Any) -> None:
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute(
            "INSERT INTO catalyst.audit_pending (org_id, type, actor_kind, actor_id, actor_profile, resource_id, before, after,"
            " request_id, address) SELECT CASE WHEN n %% 3 > 0 THEN gen_random_uuid() END, 'a.b', 'api_key', 'ä\"' || n, gen_random_uuid(),"
            " 'r', NULL, jsonb_build_object('n', n / 7.0, 'ü', chr(127), 'x', ARRAY[n, n]), 'q', %s::inet FROM generate_series(1, 50) AS n",
            ["2001:db8::1"],
        )
        admin.execute(
            "INSERT INTO catalyst.audit_pending (type, actor_kind, actor_id, resource_id, address)"
            " VALUES ('a.b', 'system', 's', 'r', '192.0.2.0/24'), ('a.b', 'system', 's', 'r', NULL)"
        )
        lines = [line for (line,) in admin.execute("SELECT catalyst.audit_line(e) FROM catalyst.audit_events e ORDER BY id")]
    report = chain.verify(lines)
    assert (report.broken, report.events, report.chains) == (None, 52, 35)
    for line in lines:
        event = chain.parse(line)
        assert chain.event_hash(event) == event["hash"]
        assert event["address"] is None or chain.commitment(event["address_salt"], event["address"]) == event["address_sha256"]
