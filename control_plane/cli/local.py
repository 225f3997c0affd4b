"""The settings of the `catalyst up` that runs in this folder, for commands that are given none of their own."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

DATA: Final = Path(".catalyst")
SECRET_KEY_FILE: Final = "secret-key"
_RUNNING: Final = "running.json"


def owner_alone(name: str, flags: int) -> int:
    """Opener of files that nobody but their owner should read."""
    return os.open(name, flags, 0o600)


def announce(data: Path, database_url: str, issuer: str) -> Path:
    """Write down where a ready stack's database is and who issues its tokens; the file is its owner's alone."""
    file = data / _RUNNING
    file.unlink(missing_ok=True)
    with open(file, "x", opener=owner_alone) as out:
        json.dump({"CATALYST_DATABASE_URL": database_url, "CATALYST_ISSUER": issuer}, out)
    return file


def with_local(environ: Mapping[str, str], data: Path = DATA) -> dict[str, str]:
    """The environment, what is unset in it filled in from the stack that runs with `data`; as it is for any other database."""
    given = {name: value for name, value in environ.items() if value}
    try:
        running: dict[str, str] = json.loads((data / _RUNNING).read_text())
        if (data / SECRET_KEY_FILE).exists():
            running["CATALYST_SECRET_KEY"] = (data / SECRET_KEY_FILE).read_text().strip()
    except (OSError, ValueError):
        return given
    if given.get("CATALYST_DATABASE_URL", running["CATALYST_DATABASE_URL"]) != running["CATALYST_DATABASE_URL"]:
        return given
    return running | given
