"""docs/guides/answering-an-auditor.md, step by step, as it is written."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.test_quickstart import PROGRAMS, clean_environment, everything_up, folder  # noqa: F401  (a fixture)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "answering-an-auditor.md"


@pytest.mark.timeout(120)
def test_the_guide_for_auditors(folder: Path) -> None:  # noqa: F811  (the fixture)
    first, *blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert first.startswith("export CATALYST_API_KEY=cak_…")
    with everything_up(folder) as urls:
        env = clean_environment() | {"CATALYST_URL": urls["control"], "PATH": f"{PROGRAMS}:{os.environ['PATH']}"}
        begin = "CATALYST_API_KEY=$(catalyst bootstrap --json | jq -r .api_key)\nexport CATALYST_API_KEY\n"
        script = "set -euo pipefail\n" + begin + "\n".join(blocks)
        done = subprocess.run(
            ["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False, timeout=100, env=env
        )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert re.search(r"^\d+ events in 3 chains hold; 2 checkpoints agree\.$", done.stdout, re.MULTILINE), said
    assert re.search(
        r"^chain [0-9a-f-]{36}, event \d+ .*\(hash\)$|^chain platform, event \d+ .*\(hash\)$", done.stdout, re.MULTILINE
    ), said
    assert re.search(r"^chain .*\(tail\)$", done.stdout, re.MULTILINE), said
    assert done.stdout.count("found, exit code 1") == 2, said
    assert '"entitlement": "orders:read"' in done.stdout
