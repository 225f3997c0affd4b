"""The guided tour, as `make demo` gives it."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def data() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="catalyst-demo-")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.timeout(150)
def test_everything_in_the_tour_holds(data: str):
    # Set for another system on this machine: the tour must not touch it.
    environ = {**os.environ, "CATALYST_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing", "COLUMNS": "120"}
    command = [sys.executable, "-m", "control_plane", "demo", "--check", "--data", data]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environ, timeout=140)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Everything held" in done.stdout
    assert "✘ step" not in done.stdout
    for seen in (
        "missing_credentials",
        "policy_denied",
        "contractors_locked_out",
        "revoked_session",
        "invalid_api_key",
        "stale",
        "●○",
        # The people: at the provider, at another domain, refused by a page, with a second factor, refreshed, logged out.
        "/auth/password",
        "http://invoices.localhost",
        "You have no access to this",
        "/auth/otp",
        "/.catalyst/refresh",
        "her other browser is out",
        # The receiver of webhooks: told, lied to, away and back.
        "grant.created",
        "one word of it changed: not signed by whom we expect",
        "the same once more: known already",
        "it is back, and hears what it missed",
    ):
        assert seen in done.stdout
    assert not (Path(data) / "postgres" / "postmaster.pid").exists()
