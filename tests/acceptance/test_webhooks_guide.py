"""docs/guides/webhooks.md, step by step, as it is written."""

import contextlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from control_plane.cli.processes import free_port
from tests.acceptance.test_onboarding_guide import administrator, folder  # noqa: F401  (a fixture)
from tests.acceptance.test_quickstart import PROGRAMS, clean_environment, everything_up

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guides"
PAGE = (GUIDES / "webhooks.md").read_text()
STEPS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def up(folder: Path) -> contextlib.AbstractContextManager[dict[str, str]]:  # noqa: F811  (the fixture)
    """`catalyst up`, which may send webhooks to this machine."""
    return everything_up(folder, {"CATALYST_WEBHOOK_NETWORKS": "127.0.0.0/8"})


def varied(text: str) -> str:
    """Without what differs each time: ids, times, and the spaces that fill lines up."""
    return re.sub(r" +$", "", re.sub(r"msg_\w+|\d+\.\d", "…", text), flags=re.MULTILINE)


@pytest.mark.timeout(240)
def test_the_guide_works_as_it_is_written(folder: Path) -> None:  # noqa: F811  (the fixture)
    shutil.copytree(GUIDES / "receivers", folder / "docs" / "guides" / "receivers", ignore=shutil.ignore_patterns("node_modules"))
    port = str(free_port())
    script = "trap 'kill $(jobs -p)' EXIT\n" + "\n".join(STEPS).replace("8001", port)
    with up(folder) as urls:
        env = clean_environment() | {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "CATALYST_URL": urls["control"]}
        env["CATALYST_API_KEY"] = administrator(folder, env)
        command = ["bash", "-c", f"set -euo pipefail\n{script}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=200, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = re.search(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert shown is not None
    assert varied(shown[1]) in varied(done.stdout)
    assert "status                 paused" in done.stdout
    secrets = [json.loads((folder / name).read_text())["secret"] for name in ("webhook.json", "rotated.json")]
    assert len({*secrets}) == 2
    assert "Done." in done.stdout
