"""docs/guides/receiving-webhooks.md: its code is that of the files beside it, its examples are what we send, its steps work."""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from control_plane.delivery.message import Payload, message
from control_plane.delivery.outcomes import DEFAULT_SCHEDULE
from tests.acceptance.test_quickstart import PROGRAMS, clean_environment, everything_up, folder, free_port  # noqa: F401  (a fixture)
from tests.webhooks.receivers import FOLDER

GUIDE = FOLDER.parent / "receiving-webhooks.md"
PAGE = GUIDE.read_text()


@pytest.mark.parametrize("name", ["receiver.py", "receiver.mjs", "ed25519.py", "ed25519.mjs"])
def test_the_page_shows_each_file_as_it_is(name: str) -> None:
    language = {".py": "python", ".mjs": "js"}[Path(name).suffix]
    assert f"```{language}\n{(FOLDER / name).read_text()}```\n" in PAGE


EXAMPLES = [json.loads(text) for text in re.findall(r"^```json\n({.*?)^```", PAGE, re.MULTILINE | re.DOTALL)]
PAYLOADS: tuple[Payload, ...] = ("full", "thin")


def test_the_examples_are_what_is_sent() -> None:
    event = UUID("5a1c9d0e8f2b4c6d9e7f1a2b3c4d5e6f")
    for payload, example in zip(PAYLOADS, EXAMPLES, strict=True):
        at = datetime.fromisoformat(example["timestamp"])
        sent = message(event, example["type"], at, example["revision"], EXAMPLES[0]["data"], payload)
        assert json.loads(sent.body) == example
        assert f"webhook-id: {sent.id}\n" in PAGE
    assert datetime.fromisoformat(EXAMPLES[0]["timestamp"]).replace(microsecond=0) == datetime.fromtimestamp(1764115200, UTC)


def test_the_schedule_is_the_one_that_is_kept() -> None:
    first, second, third, *hours = DEFAULT_SCHEDULE
    assert all(wait % 3600 == 0 for wait in hours)
    *most, last = (str(wait // 3600) for wait in hours)
    said = f"{first} seconds, {second // 60} minutes, {third // 60} minutes, {', '.join(most)} and {last} hours"
    assert said in PAGE


@pytest.mark.timeout(180)
def test_the_steps(folder: Path) -> None:  # noqa: F811  (the fixture)
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
    put_in = {
        "8001": free_port(),
        "$PWD/.venv/bin": str(PROGRAMS),
        "docs/guides/receivers/": f"{FOLDER}/",
        "python3 ": f"{sys.executable} ",
    }
    for written, here in put_in.items():
        assert written in script
        script = script.replace(written, here)
    with everything_up(folder, {"CATALYST_WEBHOOK_NETWORKS": "127.0.0.0/8"}) as urls:
        env = clean_environment() | {"CATALYST_URL": urls["control"], "PATH": os.environ["PATH"]}
        env |= {
            "CATALYST_DATABASE_URL": urls["database"],
            "CATALYST_SECRET_KEY": (folder / ".catalyst" / "secret-key").read_text(),
        }
        command = ["bash", "-c", f"set -euo pipefail\ntrap 'kill $(jobs -p)' EXIT\n{script}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=150, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    attempts = [json.loads(line) for line in re.findall(r'^\["org.*\]$', done.stdout, re.MULTILINE)]
    assert attempts == [json.loads(line) for line in re.findall(r'^\["org.*\]$', PAGE, re.MULTILINE)], done.stdout
