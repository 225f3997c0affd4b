"""docs/guides/restoring-from-backup.md, step by step, as it is written."""

import json
import re
import subprocess
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.test_quickstart import PROGRAMS, clean_environment, everything_up
from tests.acceptance.test_quickstart import folder as folder  # noqa: PLC0414  (a fixture)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "restoring-from-backup.md"


@pytest.mark.timeout(180)
def test_the_guide(folder: Path) -> None:
    with everything_up(folder) as urls:
        text = "\n".join(re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL))
        put_in = {
            "'postgresql://…'    # as printed": f"'{urls['database']}'",
            "'http://…'    # as printed": f"'{urls['control']}'",
            "$PWD/.venv/bin": str(PROGRAMS),
        }
        for written, used in put_in.items():
            assert written in text
            text = text.replace(written, used)
        done = subprocess.run(
            ["bash", "-c", f"set -euo pipefail\n{text}"], cwd=folder, capture_output=True, text=True, check=False, timeout=150,
            env=clean_environment() | {"CATALYST_URL": urls["control"]},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("The CATALYST_SECRET_KEY that is set here opens") == 2
        assert "acme" in done.stdout.rpartition("opens")[2]
        with psycopg.connect(urls["database"].replace("/catalyst?", "/restored?")) as connection:
            assert connection.execute("SELECT count(*) FROM catalyst.orgs WHERE slug = 'acme'").fetchone() == (1,)
    (report,) = (folder / "drills").glob("drill-*.json")
    assert json.loads(report.read_text())["result"] == "passed"
