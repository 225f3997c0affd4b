"""What holds for every command: help, an exit code that means something, an error that says what to do, JSON for scripts."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from control_plane import cli
from control_plane.cli_description import BY_HAND
from tests.acceptance.command_line import catalyst, catalyst_here
from tests.acceptance.processes import environment

PROMISED = [
    "demo",
    "up",
    "control-plane",
    "sidecar",
    "migrate",
    "bootstrap",
    "token",
    "policy",
    "proxy-config",
    "worker",
    "webhooks",
]
"""Of the contract."""

WITHOUT_JSON = {
    "demo": "a tour",
    "control-plane": "runs until it is stopped; its log is JSON",
    "sidecar": "the same",
    "injector": "the same",
    "worker": "the same",
    "migrate": "there is nothing to read but the exit code",
    "proxy-config": "prints a file",
    "audit export": "prints NDJSON",
    "restore": "there is nothing to read but the exit code",
}
"""Commands without --json, and why."""

WITHOUT_THE_API = {
    "policy explain": "asks a sidecar",
    "policy test": "works offline",
    "audit verify": "works offline",
    "secrets": "works on the database",
}
"""Commands of groups that need no key, and why."""

KEY = "cak_57cc727fbf89431188415fbc7181bcdd_8418adc553d6cb82f2f52d39b2e6ca5c94a5a7bd6a7ff3ca4cb595af18535459"
TOKEN = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJzZWNyZXQifQ.c2lnbmF0dXJl"


def walk(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its full name."""
    if not hasattr(command, "list_commands"):
        yield name, command
        return
    context = command.context_class(command, info_name=name)
    for child in command.list_commands(context):
        yield from walk(command.get_command(context, child), f"{name} {child}".strip())


COMMANDS = dict(walk(typer.main.get_command(cli.app)))
OF_THE_API = [name for name in COMMANDS if " " in name and not name.startswith(tuple(WITHOUT_THE_API))]


def needed(command: Any, value: str = "x") -> Iterator[str]:
    """The least that a command takes: a value for each required argument and option."""
    for parameter in command.params:
        if parameter.required:
            yield from (parameter.opts[0],) if parameter.opts[0].startswith("--") else ()
            yield {"--subject": "role:buyer", "version": "1"}.get(parameter.opts[0], value)


def test_every_command_that_was_promised_is_there() -> None:
    top = {name.partition(" ")[0] for name in COMMANDS}
    assert set(PROMISED) <= top
    shown = catalyst("--help")
    assert shown.returncode == 0
    assert [name for name in top if f"\n  {name} " not in shown.stdout] == []


def test_every_command_that_is_said_to_be_written_by_hand_is_there() -> None:
    assert {command for command in BY_HAND.values() if command} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(name: str) -> None:
    done = catalyst_here(*name.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    usage, _, rest = done.stdout.partition("\n\n")
    assert f"{name} [OPTIONS]" in " ".join(usage.split())
    assert rest.strip()[0].isupper()


@pytest.mark.parametrize("name", COMMANDS)
def test_nonsense_is_refused_without_a_traceback(name: str) -> None:
    takes_many = any(parameter.nargs < 0 for parameter in COMMANDS[name].params)
    for nonsense in (["--nonsense"], ["--nonsense=1", "ä"], *([] if takes_many else [["a"] * 9])):
        done = catalyst_here(*name.split(), *nonsense)
        assert (done.returncode, done.stdout) == (2, ""), nonsense
        assert "--help" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_a_secret_in_the_wrong_place_is_not_repeated(name: str) -> None:
    for secret in (KEY, TOKEN):
        for misplaced in ([secret] * 9, [f"--{secret}"], ["--json", f"--{secret}=1"]):
            done = catalyst_here(*name.split(), *misplaced)
            assert done.returncode == 2
            assert secret not in done.stdout + done.stderr


@pytest.mark.parametrize("name", OF_THE_API)
def test_whoever_has_no_key_is_told_where_it_comes_from(name: str, tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_text("email\n")
    command = COMMANDS[name]
    confirmed = ["--yes"] if any("--yes" in parameter.opts for parameter in command.params) else []
    done = catalyst_here(*name.split(), *needed(command, str(tmp_path / "file.csv")), *confirmed)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "catalyst: CATALYST_API_KEY is not set: `catalyst bootstrap` gives the first one\n"


def test_a_script_can_read_every_answer() -> None:
    without = {name for name, command in COMMANDS.items() if not any("--json" in p.opts for p in command.params)}
    assert without == set(WITHOUT_JSON)


LOADED = """
import sys
from control_plane.cli import run
try:
    run()
except SystemExit:
    print(*sys.modules)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["orgs", "create", "--help"], ["orgs", "list", "--nonsense"]])
def test_help_and_mistakes_load_neither_the_web_framework_nor_the_http_client(arguments: list[str]) -> None:
    """Starting costs what is loaded: `python -X importtime -m control_plane --help` shows it."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, check=True, env=environment()
    )
    loaded = set(done.stdout.split())
    assert "control_plane.cli" in loaded
    assert {"fastapi", "starlette", "httpx2", "sqlalchemy", "asyncpg", "uvicorn"} & loaded == set()
