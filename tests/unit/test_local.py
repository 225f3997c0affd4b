"""Which settings a command takes from the `catalyst up` of its folder."""

import stat

import pytest

from control_plane.cli.local import SECRET_KEY_FILE, announce, with_local

URL, ISSUER, KEY = "postgresql://postgres@/catalyst?host=here", "http://127.0.0.1:9", "a2V5"


@pytest.fixture
def data(tmp_path):
    (tmp_path / SECRET_KEY_FILE).write_text(KEY + "\n")
    announce(tmp_path, URL, ISSUER)
    return tmp_path


def test_what_is_unset_comes_from_the_running_stack(data):
    found = {"CATALYST_DATABASE_URL": URL, "CATALYST_ISSUER": ISSUER, "CATALYST_SECRET_KEY": KEY}
    assert with_local({}, data) == found
    assert with_local({"CATALYST_DATABASE_URL": URL, "CATALYST_SECRET_KEY": ""}, data) == found


def test_what_is_set_stays(data):
    assert with_local({"CATALYST_ISSUER": "https://id.example.com"}, data)["CATALYST_ISSUER"] == "https://id.example.com"


def test_another_database_gets_nothing_of_this_one(data):
    other = {"CATALYST_DATABASE_URL": "postgresql://db.example.com/catalyst"}
    assert with_local(other, data) == other


def test_without_a_stack_nothing_is_filled_in(tmp_path):
    (tmp_path / SECRET_KEY_FILE).write_text(KEY)
    assert with_local({"HOME": "/root"}, tmp_path) == {"HOME": "/root"}


def test_only_the_owner_reads_the_file(tmp_path):
    announce(tmp_path, "postgresql://before", ISSUER)
    assert stat.S_IMODE(announce(tmp_path, URL, ISSUER).stat().st_mode) == 0o600
    assert with_local({}, tmp_path)["CATALYST_DATABASE_URL"] == URL
