"""Caddy: the `forward_auth` directive, forwarded dialect.

https://caddyserver.com/docs/caddyfile/directives/forward_auth
"""

from string import Template

from control_plane.proxies.parameters import (
    CHECK_TIMEOUT_SECONDS,
    CLIENT_ADDRESS_HEADERS,
    MISLEADING_HEADERS,
    Parameters,
)

FILE = "Caddyfile"

_TEMPLATE = Template("""\
# Caddy in front of $application, asking Catalyst Auth at $sidecar. Start it with
#   $command
{
\tadmin off
\tauto_https off
\tpersist_config off
\t# No trusted_proxies: Caddy itself writes X-Forwarded-For, -Proto and -Host. Where another proxy of yours stands in front,
\t# name exactly its addresses under servers > trusted_proxies.
}

$sites {
\tbind $bind

\t# route keeps this order; without it Caddy would sort the directives.
\troute {
\t\t# What a client could use to pass for somebody else, or to have another path served than the one that was judged. The
\t\t# identity headers are removed here because copy_headers may leave the client's own where the answer's is empty.
$strip
\t\t# What Connection names is dropped on the way to the application: a client could name x-policy-obligations there. And
\t\t# WebSockets are the only upgrade: one to h2c would carry requests past the check.
\t\t@websocket header_regexp Upgrade (?i)^websocket$$
\t\t@plain not header_regexp Upgrade (?i)^websocket$$
\t\trequest_header @websocket Connection Upgrade
\t\trequest_header @plain -Connection
\t\trequest_header @plain -Upgrade

\t\tforward_auth $sidecar_upstream {
\t\t\turi /forward-auth/caddy?
\t\t\theader_up -Connection
\t\t\theader_up -Upgrade
\t\t\ttransport http {
\t\t\t\tdial_timeout 1s
\t\t\t\tresponse_header_timeout ${timeout}s
\t\t\t\tread_timeout ${timeout}s
\t\t\t}
\t\t\tcopy_headers {
$answer
\t\t\t}
\t\t}

\t\treverse_proxy $application
\t}
}
$login""")

_LOGIN = Template("""\

# Where people log in: no question to the sidecar.
http://$host:$port {
\tbind $bind
\troute {
$strip
\t\trequest_header -Connection
\t\trequest_header -Upgrade
\t\treverse_proxy $login
\t}
}
""")


def command(parameters: Parameters, file: str) -> list[str]:  # noqa: ARG001  (one signature for every proxy)
    """The command line that runs Caddy with the rendered file."""
    return ["caddy", "run", "--adapter", "caddyfile", "--config", file]


def render(parameters: Parameters) -> str:
    """A Caddyfile."""
    removed = (*parameters.answer_headers, *MISLEADING_HEADERS, *CLIENT_ADDRESS_HEADERS)
    sites = [f"http://{host}:{parameters.listen.port}" for host in parameters.hosts] or [f"http://:{parameters.listen.port}"]
    sidecar = f"unix/{parameters.sidecar.path}" if parameters.sidecar.path else str(parameters.sidecar)
    strip = "\n".join(f"\t\trequest_header -{header}" for header in removed)
    return _TEMPLATE.substitute(
        application=parameters.application,
        sidecar=parameters.sidecar,
        sidecar_upstream=sidecar,
        command=" ".join(command(parameters, FILE)),
        sites=", ".join(sites),
        bind=parameters.listen.bare_host,
        timeout=CHECK_TIMEOUT_SECONDS,
        strip=strip,
        login=_login(parameters, strip),
        answer="\n".join(f"\t\t\t\t{header}" for header in parameters.answer_headers),
    )


def _login(parameters: Parameters, strip: str) -> str:
    """The site of the login host, where it is this proxy's."""
    if not parameters.login:
        return ""
    listen = parameters.listen
    return _LOGIN.substitute(
        host=parameters.login.host, port=listen.port, bind=listen.bare_host, strip=strip, login=parameters.login.address
    )
