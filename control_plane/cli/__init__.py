"""The command line `catalyst`. One module for each command or group of commands.

Exit codes: 0 done; 1 the answer is no (a policy with problems, a failed test, a request that would not pass, a tour that went
wrong); 2 the command could not be carried out as it was given.
"""

import errno
import sys
from typing import Final

import typer

from control_plane.errors import OperatorError

app: Final = typer.Typer(
    name="catalyst",
    help="Catalyst Auth: forward authentication that answers from memory.",
    epilog="Exit codes: 0 done, 1 the answer is no, 2 the command could not be carried out as it was given.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _assemble() -> None:
    """Put the commands in the order in which somebody new needs them."""
    from control_plane.cli import policy, resources, secrets
    from control_plane.cli.backup import backup, restore
    from control_plane.cli.bootstrap import bootstrap
    from control_plane.cli.demo import demo
    from control_plane.cli.drill import drill
    from control_plane.cli.migrate import migrate
    from control_plane.cli.programs import control_plane, sidecar
    from control_plane.cli.proxy_config import proxy_config
    from control_plane.cli.token import token
    from control_plane.cli.up import up

    for command in (demo, up, migrate, bootstrap, token, control_plane, sidecar, proxy_config, backup, restore, drill):
        app.command(command.__name__.replace("_", "-"))(command)
    app.add_typer(policy.group)
    for group in resources.groups():
        app.add_typer(group)
    app.add_typer(secrets.group)


_assemble()


def run() -> None:
    """Run the command that the arguments name. An operator's mistake is printed without a traceback."""
    try:
        app()
    except OperatorError as error:
        for problem in error.problems:
            print(f"catalyst: {problem}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise  # no file's fault, and so nothing that an operator could put right
        print(f"catalyst: {error.filename or 'a file'}: {error.strerror}. See to it, then try again", file=sys.stderr)
        sys.exit(2)
