"""A plain install is the sidecar alone: its dependencies are named once, and nothing else enters its process."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SIDECAR = {"asyncpg", "cachetools", "cryptography", "httptools", "orjson", "pyjwt", "tzdata", "uvloop"}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower() for requirement in requirements}


def test_a_plain_install_brings_what_the_sidecar_needs() -> None:
    assert names(PROJECT["dependencies"]) == SIDECAR


def test_the_sidecars_process_holds_nothing_of_the_extras() -> None:
    extras = names([name for requirements in PROJECT["optional-dependencies"].values() for name in requirements])
    modules = {"control_plane", "sqlalchemy"} | {
        name.replace("-", "_").replace("ruamel.yaml", "ruamel") for name in extras - SIDECAR
    }
    modules -= {"catalyst_auth"}
    code = "import sys, sidecar.__main__, sidecar.server, sidecar.supervisor; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert {"fastapi", "pydantic", "typer", "structlog", "psycopg"} <= modules
    assert modules & {name.partition(".")[0] for name in loaded} == set()


def test_both_lock_files_pin_every_requirement_by_hash() -> None:
    for lock, extra in (("requirements.lock", "demo"), ("requirements-dev.lock", "dev")):
        text = (ROOT / lock).read_text()
        pinned = set(re.findall(r"^([a-z0-9.-]+)==", text, re.MULTILINE))
        wanted = names(PROJECT["dependencies"] + PROJECT["optional-dependencies"][extra]) - {"catalyst-auth"}
        assert {name.replace(".", "-") for name in wanted} <= pinned
        assert re.findall(r"^[a-z0-9.-]+==.*[^\\]\n(?!    --hash)", text, re.MULTILINE) == []
