"""Files of rows as people have them: what is read, and what is said of each kind of damage."""

from pathlib import Path
from typing import Any

import pytest

from control_plane.cli.import_files import (
    GRANTS,
    MAX_LINE_BYTES,
    MEMBERSHIPS,
    PROFILES,
    Record,
    Shape,
    column_of,
    open_file,
    records,
)
from control_plane.errors import OperatorError

HEADER = b"email,display_name\n"
PROFILE_ROW = {"email": "ann@example.com", "display_name": "Ann"}


def read(tmp_path: Path, content: bytes, shape: Shape = PROFILES, name: str = "rows.csv", org: bool = False) -> list[Record]:
    path = tmp_path / name
    path.write_bytes(content)
    with open_file(path) as file:
        return list(records(path, file, shape, has_org=org))


def rows(found: list[Record]) -> list[Any]:
    assert [record.problems for record in found] == [[]] * len(found)
    return [record.row for record in found]


def told(found: list[Record]) -> list[tuple[int, str]]:
    return [(problem.line, problem.code) for record in found for problem in record.problems]


@pytest.mark.parametrize(
    "content",
    [
        b"email,display_name\nann@example.com,Ann\n",
        b"email,display_name\nann@example.com,Ann",
        b"\xef\xbb\xbfemail,display_name\r\nann@example.com,Ann\r\n\r\n",
        b'"display_name","email"\n"Ann","ann@example.com"\n\n',
    ],
)
def test_the_same_rows_however_they_are_written(tmp_path: Path, content: bytes) -> None:
    assert rows(read(tmp_path, content)) == [PROFILE_ROW]


def test_the_columns_of_profiles(tmp_path: Path) -> None:
    content = (
        "email,kind,display_name,labels,label.plan,issuer,subject\n"
        'ann@example.com,user,"Ann ""A"", jr.","{""eu"": true}",pro,https://idp.example,ann\n'
        "bob@example.com,,,,,,\n"
    )
    ann, bob = rows(read(tmp_path, content.encode()))
    assert (ann["display_name"], ann["labels"]) == ('Ann "A", jr.', {"eu": True, "plan": "pro"})
    assert ann["identities"] == [{"issuer": "https://idp.example", "subject": "ann"}]
    assert bob == {"email": "bob@example.com"}


def test_the_columns_of_memberships_and_grants(tmp_path: Path) -> None:
    content = b"profile,roles,groups\nann@example.com,buyer; seller;,team\n"
    assert rows(read(tmp_path, content, MEMBERSHIPS, org=True)) == [
        {"profile": "ann@example.com", "roles": ["buyer", "seller"], "groups": ["team"]}
    ]
    content = b"org,subject_kind,subject,entitlement,expires_at,reason\nacme,role,buyer,orders:read,,trial\n"
    assert rows(read(tmp_path, content, GRANTS)) == [
        {"org": "acme", "subject": {"kind": "role", "id": "buyer"}, "entitlement": "orders:read", "reason": "trial"}
    ]


def test_objects_a_line(tmp_path: Path) -> None:
    content = b'{"email": "ann@example.com"}\r\n\n{"email": "bob@example.com"}'
    assert rows(read(tmp_path, content, name="rows.ndjson")) == [{"email": "ann@example.com"}, {"email": "bob@example.com"}]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"ann@example.com,Ren\xe9\n", "not_utf8"),
        (b"ann@exam\0ple.com,Ann\n", "nul"),
        (b"ann@example.com," + b"n" * MAX_LINE_BYTES * 40 + b"\n", "line_too_long"),
        (b"ann@example.com\n", "wrong_number_of_fields"),
        (b"ann@example.com,Ann,A\n", "wrong_number_of_fields"),
        (b'ann@example.com,"Ann" A\n', "stray_quote"),
        (b"ann@example.com,A\rnn\n", "lone_cr"),
    ],
)
def test_a_damaged_line_is_told_and_the_next_is_read(tmp_path: Path, line: bytes, code: str) -> None:
    good = b"bob@example.com,Bob\n"
    found = read(tmp_path, HEADER + good + line + good)
    assert told(found) == [(3, code)]
    assert [record.row.get("display_name") for record in found] == ["Bob", None, "Bob"]


def test_a_quote_left_open_is_told_on_its_line(tmp_path: Path) -> None:
    found = read(tmp_path, HEADER + b'ann@example.com,"Ann\nbob@example.com,Bob\n')
    assert told(found) == [(2, "open_quote")]
    found = read(tmp_path, HEADER + b'ann@example.com,"Ann\n' + b"bob@example.com,Bob\n" * 20_000)
    assert told(found)[0] == (2, "open_quote")
    assert len(found) > 10_000, "it reads on after the field has become too long"


@pytest.mark.parametrize(
    ("line", "column", "code"),
    [
        (b"a@example.com,not json,,", "labels", "not_json"),
        (b"a@example.com,[],,", "labels", "not_json"),
        (b"a@example.com,,https://idp.example,", "subject", "missing"),
    ],
)
def test_a_cell_that_cannot_be_read_is_told_by_its_column(tmp_path: Path, line: bytes, column: str, code: str) -> None:
    (record,) = read(tmp_path, b"email,labels,issuer,subject\n" + line)
    assert [(problem.field, problem.code) for problem in record.problems] == [(column, code)]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"email", "not_json"),
        (b"[1]", "not_an_object"),
        (b'{"email": NaN}', "not_json"),
        (b'"\xff"', "not_utf8"),
        (b"[" * 9999, "not_json"),
    ],
)
def test_a_line_that_is_no_object(tmp_path: Path, line: bytes, code: str) -> None:
    assert told(read(tmp_path, b"{}\n" + line + b"\n{}\n", name="rows.ndjson")) == [(2, code)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf\n\n", "is empty"),
        ("email\nann@example.com".encode("utf-16"), "is UTF-16: save it as CSV or NDJSON in UTF-8"),
        (b"PK\x03\x04", "is a spreadsheet"),
        (b"email;display_name\n", "separated by something else than commas"),
        (b"e-mail,display_name\n", "there is no column 'e-mail'; is it email?"),
        (b"Display Name,email\n", "is it display_name?"),
        (b"display_name\n", "no column email or issuer"),
        (b"email,email\n", "the column email stands twice"),
        (b"email,issuer\n", "issuer and subject belong together"),
        (b"email,label.\n", "there is no column 'label.'"),
        (b"ema\xefl\n", "not UTF-8"),
        (b'"email\n', "never closed"),
    ],
)
def test_a_file_that_cannot_be_begun_with(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(OperatorError) as refused:
        read(tmp_path, content)
    assert said in "\n".join(refused.value.problems)


def test_an_org_is_a_column_or_an_option(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"no column org \(or give --org\)"):
        read(tmp_path, b"profile\n", MEMBERSHIPS)
    assert read(tmp_path, b"profile\n", MEMBERSHIPS, org=True) == []


@pytest.mark.parametrize(
    ("pointer", "column"),
    [
        ("/email", "email"),
        ("/labels/plan", "label.plan"),
        ("/labels", "labels"),
        ("/identities/0/subject", "subject"),
        ("/identities", "issuer"),
        ("/subject/id", "subject"),
        ("/subject/kind", "subject_kind"),
        ("/roles/3", "roles"),
    ],
)
def test_what_the_control_plane_refuses_is_told_by_column(pointer: str, column: str) -> None:
    assert column_of(pointer, Path("rows.csv")) == column
    assert column_of(pointer, Path("rows.ndjson")) == pointer
