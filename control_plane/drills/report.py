"""A drill's report, for whoever has to show that backups can be restored: Markdown to read, JSON to process."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write(facts: Mapping[str, Any], folder: Path) -> tuple[Path, str]:
    """Write both forms into `folder`, under the drill's date; the Markdown's path, and the SHA-256 of the JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = facts["began"].partition("+")[0].replace("-", "").replace(":", "")
    encoded = (json.dumps(facts, indent=2) + "\n").encode()
    digest = hashlib.sha256(encoded).hexdigest()
    readable = folder / f"drill-{stamp}Z.md"
    _put(readable.with_suffix(".json"), encoded)
    _put(readable, render(facts, digest).encode())
    return readable, digest


def render(facts: Mapping[str, Any], digest: str) -> str:
    """The report as Markdown. `digest`: of the JSON that says the same."""
    parts = [
        f"# Restore drill of {facts['began']}: {facts['result']}",
        _table(("", ""), _about(facts, digest)),
        "## What was checked",
        _table(("check", "result", "seconds", "found"), [_row(step) for step in facts["steps"]]),
    ]
    wrong = [f"- {step['name']}: {problem}" for step in facts["steps"] for problem in step["problems"]]
    if wrong:
        parts += ["## What did not hold", "\n".join(wrong)]
    if facts["backup"] is not None:
        tables = facts["backup"]["tables"].items()
        parts += ["## What was restored", _table(("table", "rows", "digest"), [(n, t["rows"], t["digest"]) for n, t in tables])]
    return "\n\n".join(parts) + "\n"


def _about(facts: Mapping[str, Any], digest: str) -> list[tuple[object, ...]]:
    backup = facts["backup"] or {}
    return [
        ("run by", facts["by"]),
        ("took", f"{facts['seconds']} seconds"),
        ("Catalyst Auth", facts["program"]),
        ("restored to", facts["restored_to"]),
        ("backup", backup.get("file", "none")),
        ("made at", backup.get("made_at", "")),
        ("PostgreSQL, schema", f"{backup.get('postgres', '')}, {backup.get('schema_version', '')}"),
        ("revision", backup.get("revision", "")),
        ("SHA-256 of the backup", backup.get("sha256", "")),
        ("SHA-256 of the JSON beside this file, in the audit log", digest),
    ]


def _row(step: Mapping[str, Any]) -> tuple[object, ...]:
    return (step["name"], step["result"], step["seconds"], step["told"])


def _table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _put(path: Path, content: bytes) -> None:
    """Complete under its name, or not there."""
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
