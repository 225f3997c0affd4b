"""docs/guides/logout.md, step by step, as it is written: only the sidecar's port is put in."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.test_quickstart import PROGRAMS, clean_environment, everything_up, folder  # noqa: F401  (a fixture)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "logout.md"


@pytest.mark.timeout(180)
def test_the_guide_to_logging_out(folder: Path) -> None:  # noqa: F811  (the fixture)
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    with everything_up(folder) as urls:
        env = clean_environment() | {"CATALYST_URL": urls["control"], "PATH": os.environ["PATH"]}
        ports = {"127.0.0.1:8787": urls["sidecar"].removeprefix("http://"), "$PWD/.venv/bin": str(PROGRAMS)}
        for written, here in ports.items():
            assert written in script
            script = script.replace(written, here)
        command = ["bash", "-c", f"set -euo pipefail\n{script}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=150, env=env)
    said = done.stdout
    assert done.returncode == 0, said + done.stderr
    assert re.findall(r"^session .*$", said, re.MULTILINE) == [
        "session 1: 200 ",
        "session 2: 200 ",
        "session 1: 401 revoked_session",
        "session 2: 200 ",
        "session 2: 401 revoked_session",
    ]
    for path in (r"login/callback/[0-9a-f-]{36}", "logout/done", r"login/backchannel/[0-9a-f-]{36}"):
        assert re.search(rf"^{urls['control']}/{path}$", said, re.MULTILINE), said
