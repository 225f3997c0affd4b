"""HAProxy: an action in Lua, which HAProxy has built in, forwarded dialect.

https://docs.haproxy.org/2.6/configuration.html
https://www.arpalert.org/src/haproxy-lua-api/2.6/index.html
"""

from pathlib import Path
from string import Template

from control_plane.proxies.parameters import CLIENT_ADDRESS_HEADERS, MISLEADING_HEADERS, Address, Parameters

FILE = "haproxy.cfg"
SCRIPT = "catalyst.lua"

_TEMPLATE = Template("""\
# HAProxy (2.6 or later, with Lua) in front of $application, asking Catalyst Auth at $sidecar. It needs a second file beside it:
#   catalyst proxy-config haproxy --script > $script
#   $command
global
    lua-load-per-thread $script
    log stderr format raw local0 warning
    # An answer's head can hold 8 KiB of entitlements and as much of each of its other lists; a request's head is added to that.
    # What does not fit is refused.
    tune.bufsize 131072
    tune.maxrewrite 65536
    tune.http.maxhdr 200

defaults
    mode http
    log global
    timeout http-request 10s
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 1h

frontend application
    bind $listen
    # HTTP/1.1 in clear text cannot turn into HTTP/2 on the way.
    option disable-h2-upgrade
$hosts    http-request return status 400 unless { req.hdr_cnt(host) eq 1 }

    # What a client could use to pass for somebody else, or to have another path served than the one that was judged.
    http-request del-header x-forwarded- -m beg
$strip
    # What Connection names is dropped at the next hop: a client could name x-policy-obligations there. And WebSockets are the
    # only upgrade: one to h2c would carry requests past the check.
    http-request set-header connection upgrade if { req.hdr(upgrade) -i websocket }
    http-request del-header connection unless { req.hdr(upgrade) -i websocket }
    http-request del-header http2-settings
    http-request del-header upgrade unless { req.hdr(upgrade) -i websocket }

$login    # The sidecar is asked about every request$but. Whatever is no 200 of the sidecar ends here.
    http-request lua.catalyst $address $answer$unless

    # HAProxy itself says who asks. Where another proxy of yours stands in front, have src set from its PROXY protocol
    # (accept-proxy at bind), not from a header.
    http-request set-header x-forwarded-for %[src]
    http-request set-header x-forwarded-proto https if { ssl_fc }
    http-request set-header x-forwarded-proto http unless { ssl_fc }
    http-request set-header x-forwarded-host %[req.fhdr(host)]
    http-request set-header x-forwarded-port %[dst_port]
$use    default_backend application

backend application
    server application $application
$backend""")

_LOGIN = Template("""\
    # Where people log in: nothing of what passes for the sidecar's answer.
    acl login $host
$strip
""")
_LOGIN_BACKEND = Template("""\

backend login
    server login $login
""")


def command(parameters: Parameters, file: str) -> list[str]:  # noqa: ARG001  (one signature for every proxy)
    """The command line that runs HAProxy with the rendered file, in the directory of both files."""
    return ["haproxy", "-db", "-f", file]


def script() -> str:
    """The action that asks the sidecar. It holds nothing of a configuration."""
    return Path(__file__).with_name(SCRIPT).read_text(encoding="utf-8")


def render(parameters: Parameters) -> str:
    """haproxy.cfg."""
    taken = (*parameters.hosts, *([parameters.login.host] if parameters.login else []))
    stripped = (*MISLEADING_HEADERS, *CLIENT_ADDRESS_HEADERS)
    return _TEMPLATE.substitute(
        application=parameters.application,
        sidecar=parameters.sidecar,
        script=SCRIPT,
        command=" ".join(command(parameters, FILE)),
        listen=parameters.listen,
        hosts=f"    http-request return status 421 unless {{ {_any_host(taken)} }}\n" if parameters.hosts else "",
        login=_login(parameters),
        but=" but the login host's" if parameters.login else "",
        unless=" unless login" if parameters.login else "",
        use="    use_backend login if login\n" if parameters.login else "",
        backend=_LOGIN_BACKEND.substitute(login=parameters.login.address) if parameters.login else "",
        strip="\n".join(f"    http-request del-header {header}" for header in stripped if not header.startswith("x-forwarded-")),
        address=_address(parameters.sidecar),
        answer=",".join(parameters.answer_headers),
    )


def _login(parameters: Parameters) -> str:
    """What tells the login host, and takes from its requests what the sidecar's answer would have replaced."""
    if not parameters.login:
        return ""
    strip = "\n".join(f"    http-request del-header {header} if login" for header in parameters.answer_headers)
    return _LOGIN.substitute(host=_any_host((parameters.login.host,)), strip=strip)


def _any_host(hosts: tuple[str, ...]) -> str:
    """A condition that one of the hosts meets."""
    return "req.hdr(host),lower -m reg " + " ".join(map(_pattern, hosts))


def _pattern(host: str) -> str:
    """A regular expression for one host with or without a port; a wildcard stands for exactly one label."""
    star, name = ("[^.]+", host[1:]) if host.startswith("*.") else ("", host)
    return f"^{star}{name.replace('.', '[.]')}(:[0-9]+)?$"


def _address(address: Address) -> str:
    """Where the sidecar is, as HAProxy's HTTP client takes it."""
    return f"unix@{address.path}" if address.path else str(address)
