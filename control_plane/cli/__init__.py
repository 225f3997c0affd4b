"""The command line `catalyst`. One module for each command or group of commands.

Exit codes: 0 done; 1 the answer is no (a policy with problems, a failed test, a request that would not pass, a tour that went
wrong); 2 the command could not be carried out as it was given.
"""

import errno
import re
import sys
from collections.abc import Callable
from typing import Any, Final

import typer
from typer.core import TyperGroup

from control_plane.cli.resources import Resource, groups
from control_plane.errors import OperatorError

_UsageError: Final[type[Any]] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
_SECRET: Final = re.compile(r"cak_[\w-]+|eyJ[\w-]+(?:\.[\w-]*)*")
"""API keys and session tokens."""


class _Catalyst(TyperGroup):
    """The top of the command line. Its help keeps the resources of the API apart."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Two lists where there would be one."""
        found = [(name, command) for name in self.list_commands(ctx) if (command := self.get_command(ctx, name))]
        limit = formatter.width - 6 - max(len(name) for name, _ in found)
        for title, is_resource in (("Commands", False), ("Resources of the API", True)):
            with formatter.section(title):
                formatter.write_dl([(n, c.get_short_help_str(limit)) for n, c in found if isinstance(c, Resource) == is_resource])


app: Final = typer.Typer(
    name="catalyst",
    cls=_Catalyst,
    help="Catalyst Auth: forward authentication that answers from memory.",
    epilog="Exit codes: 0 done, 1 the answer is no, 2 the command could not be carried out as it was given.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _assemble() -> None:
    """Put the commands in the order in which somebody new needs them."""
    from control_plane.cli import audit, imports, policy, secrets
    from control_plane.cli.backup import backup, restore
    from control_plane.cli.bootstrap import bootstrap
    from control_plane.cli.demo import demo
    from control_plane.cli.drill import drill
    from control_plane.cli.fleet import fleet
    from control_plane.cli.injector import injector, injector_certificates
    from control_plane.cli.migrate import migrate
    from control_plane.cli.programs import control_plane, sidecar, worker
    from control_plane.cli.proxy_config import proxy_config
    from control_plane.cli.replay import replay
    from control_plane.cli.tail import tail
    from control_plane.cli.token import token
    from control_plane.cli.up import up

    programs = (control_plane, worker, sidecar, injector, injector_certificates)
    for command in (demo, up, migrate, bootstrap, token, *programs, proxy_config, backup, restore, drill, fleet):
        app.command(command.__name__.replace("_", "-"))(command)
    app.add_typer(policy.group)
    app.add_typer(imports.group)
    app.add_typer(audit.group)
    app.add_typer(secrets.group)
    written: dict[str, tuple[Callable[..., None], ...]] = {"webhooks": (tail, replay)}
    for group in groups():
        for by_hand in written.get(str(group.info.name), ()):
            group.command(by_hand.__name__)(by_hand)
        app.add_typer(group)


_assemble()


def run() -> None:
    """Run the command that the arguments name. An operator's mistake is printed without a traceback."""
    try:
        sys.exit(app(prog_name="catalyst", standalone_mode=False))
    except typer.Abort:
        print("catalyst: stopped; nothing was done", file=sys.stderr)
        sys.exit(1)
    except _UsageError as error:
        # It may quote what was written, and what was written in the wrong place may be a secret.
        error.message = _SECRET.sub("…", error.message)
        error.show()
        sys.exit(error.exit_code)
    except OperatorError as error:
        for problem in error.problems:
            print(f"catalyst: {problem}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise  # no file's fault, and so nothing that an operator could put right
        print(f"catalyst: {error.filename or 'a file'}: {error.strerror}. See to it, then try again", file=sys.stderr)
        sys.exit(2)
