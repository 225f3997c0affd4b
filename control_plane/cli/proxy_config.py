"""`catalyst proxy-config`: configuration for a proxy, known to be safe."""

from collections.abc import Mapping
from typing import Annotated

import typer

from control_plane.errors import OperatorError
from control_plane.proxies import CONFIGURATIONS, PROXIES, Address, Login, Parameters


def proxy_config(  # noqa: PLR0917  (options)
    proxy: Annotated[str, typer.Argument(help=f"One of {', '.join(CONFIGURATIONS)}.", metavar="PROXY")],
    application: Annotated[
        str, typer.Option("--application", metavar="HOST:PORT", help="The application that is protected.")
    ] = "127.0.0.1:3000",
    sidecar: Annotated[
        str,
        typer.Option("--sidecar", envvar="CATALYST_SIDECAR_LISTEN", metavar="HOST:PORT", help="The sidecar; also unix:/path."),
    ] = "127.0.0.1:8787",
    listen: Annotated[str, typer.Option("--listen", metavar="HOST:PORT", help="Where the proxy listens.")] = "127.0.0.1:8000",
    host: Annotated[
        list[str] | None,
        typer.Option("--host", help="Take only this host (repeatable). Without: all; the sidecar refuses unknown ones."),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option("--header", help="A header that policy rules send to the application (`headers:`; repeatable)."),
    ] = None,
    login: Annotated[
        str,
        typer.Option(
            "--login",
            metavar="HOST=HOST:PORT",
            help="The host of CATALYST_LOGIN_URL, where the sidecar is not asked, and CATALYST_LOGIN_LISTEN.",
        ),
    ] = "",
    script: Annotated[
        bool, typer.Option("--script", help="Print the script that the configuration loads (haproxy), the same for all.")
    ] = False,
) -> None:
    """Print a proxy's configuration, known to be safe.

    It asks the sidecar about every request, believes nothing that a client says of itself, replaces every identity header, and
    refuses where the sidecar does not answer. Its first lines say how to start the proxy with it.
    """
    if proxy not in CONFIGURATIONS:
        raise OperatorError(f"there is no configuration for {proxy!r}: write one of {', '.join(CONFIGURATIONS)}")
    if script:
        print(_script(proxy), end="")
        return
    options = {"--application": application, "--sidecar (CATALYST_SIDECAR_LISTEN)": sidecar, "--listen": listen}
    places = _addresses(options)
    people = Login.parse(login) if login else None
    parameters = Parameters(places[0], places[1], places[2], tuple(host or ()), tuple(header or ()), people)
    print(CONFIGURATIONS[proxy](parameters), end="")


def _script(proxy: str) -> str:
    """What a proxy's configuration loads. OperatorError where that is nothing."""
    kind = PROXIES.get(proxy)
    if kind is None or kind.script is None:
        raise OperatorError(f"{proxy} needs no script: leave --script out")
    return kind.script()


def _addresses(options: Mapping[str, str]) -> list[Address]:
    """The addresses that options hold. OperatorError with every one that is none."""
    addresses, problems = [], []
    for option, text in options.items():
        try:
            addresses.append(Address.parse(text))
        except OperatorError as problem:
            problems.append(f"{option}: {problem}")
    if problems:
        raise OperatorError(*problems)
    return addresses
