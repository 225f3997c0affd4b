"""docs/guides/onboarding-an-org.md, step by step, as it is written."""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.test_quickstart import PROGRAMS, clean_environment, everything_up

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "onboarding-an-org.md"


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder that the embedded PostgreSQL can be reached in, whoever it runs as."""
    with tempfile.TemporaryDirectory(prefix="catalyst-onboarding-") as name:
        yield Path(name)


def administrator(folder: Path, env: dict[str, str]) -> str:
    """The quickstart's second step."""
    command = [str(PROGRAMS / "catalyst"), "bootstrap", "--json"]
    done = subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True, text=True, timeout=60)
    key: str = json.loads(done.stdout)["api_key"]
    return key


@pytest.mark.timeout(240)
def test_the_guide_works_as_it_is_written(folder: Path) -> None:
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    with everything_up(folder) as urls:
        env = clean_environment() | {
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
            "CATALYST_URL": urls["control"],
            "CATALYST_SIDECAR_OPS_LISTEN": urls["sidecar_ops"].removeprefix("http://"),
        }
        env["CATALYST_API_KEY"] = administrator(folder, env)
        command = ["bash", "-c", f"set -euo pipefail\n{script}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=200, env=env)
    said = done.stdout
    assert done.returncode == 0, said + done.stderr
    assert re.findall(r"^\w+\.csv: (.*)", said, re.MULTILINE) == [
        "3 rows: 3 would be created, 0 unchanged, 0 bad",
        "3 rows: 3 created, 0 unchanged, 0 bad",
        "3 rows: 0 created, 3 unchanged, 0 bad",
        "3 rows: 3 created, 0 unchanged, 0 bad",
        "4 rows: 4 created, 0 unchanged, 0 bad",
    ]
    assert re.findall(r"^(allow|deny): (\S+)", said, re.MULTILINE) == [
        ("allow", "policy.rule.read.allow"),
        ("allow", "policy.rule.approve.allow"),
        ("deny", "policy_denied"),
    ]
    for entitlement in ("orders:read", "orders:approve", "catalogue:read"):
        assert entitlement in said
    held = json.loads((folder / "cy.json").read_text())
    assert (held["profile"]["email"], held["grants"][0]["reason"]) == ("cy@acme.example", "trial")
