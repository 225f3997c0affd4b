"""Configuration for the proxies that ask the sidecar: known to be safe, proven against the real programs in tests/proxies."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from control_plane.proxies import caddy, envoy, haproxy, istio, nginx, traefik
from control_plane.proxies.parameters import Address, Login, Parameters

__all__ = ["CONFIGURATIONS", "PROXIES", "Address", "Login", "Parameters", "Proxy"]


@dataclass(frozen=True, slots=True)
class Proxy:
    """How to configure and start one kind of proxy.

    `render(parameters)` is the text of the file it needs; `command(parameters, file)` starts it in the foreground, in the
    directory that holds the file. HAProxy needs a `script` beside it.
    """

    name: str
    file: str
    render: Callable[[Parameters], str]
    command: Callable[[Parameters, str], list[str]]
    script_file: str = ""
    script: Callable[[], str] | None = None


PROXIES: Final = {
    proxy.name: proxy
    for proxy in (
        Proxy("traefik", traefik.FILE, traefik.render, traefik.command),
        Proxy("envoy", envoy.FILE, envoy.render, envoy.command),
        Proxy("nginx", nginx.FILE, nginx.render, nginx.command),
        Proxy("caddy", caddy.FILE, caddy.render, caddy.command),
        Proxy("haproxy", haproxy.FILE, haproxy.render, haproxy.command, haproxy.SCRIPT, haproxy.script),
    )
}

CONFIGURATIONS: Final = {name: proxy.render for name, proxy in PROXIES.items()} | {"istio": istio.render}
"""Whatever there is a configuration for; Istio is no program that is started on its own."""
