"""Traefik 3: the `forwardAuth` middleware, forwarded dialect.

https://doc.traefik.io/traefik/v3.7/reference/routing-configuration/http/middlewares/forwardauth/
"""

import json
from string import Template

from control_plane.errors import OperatorError
from control_plane.proxies.parameters import CLIENT_ADDRESS_HEADERS, MISLEADING_HEADERS, Parameters

FILE = "catalyst.yaml"
"""Not traefik.yaml: Traefik would take a file of that name in its directory for its static configuration."""

_TEMPLATE = Template("""\
# Traefik in front of $application, asking Catalyst Auth at $sidecar. Start it with
#   $command
# aliasHeadersStrategy came with Traefik 3.7.12; before it, leave the option out: the sidecar refuses such headers too, where
# they pass for an identity header or for one that the policy sends. preserveLocationHeader came with 3.4.
#
# The entry point must keep its default: no forwardedHeaders.insecure and no forwardedHeaders.trustedIPs, unless another proxy
# of yours stands in front. Then name exactly that proxy's addresses there, and at the sidecar in
# CATALYST_SIDECAR_TRUSTED_PROXIES. Otherwise clients choose their own X-Forwarded-For.
http:
  routers:
    application:
      entryPoints: [web]
      rule: $rule
      middlewares: [strip, catalyst]
      service: application
$login_router
  middlewares:
    # What a client could use to pass for somebody else, or to have another path served than the one that was judged.
    strip:
      headers:
        customRequestHeaders:
$strip
    catalyst:
      forwardAuth:
        address: "http://$sidecar/forward-auth/traefik"
        # Traefik itself writes every X-Forwarded header of the question.
        trustForwardHeader: false
        # authRequestHeaders stays unset: the sidecar has to see every header to refuse those that pass for another.
        forwardBody: false
        preserveRequestMethod: false
        # Otherwise Traefik would make an address without a host one at the sidecar.
        preserveLocationHeader: true
        maxResponseBodySize: 65536
        # Each of these is taken from the answer, and the client's own copy is removed.
        authResponseHeaders:
$answer

  services:
    application:
      loadBalancer:
        passHostHeader: true
        servers:
          - url: "http://$application"
$login_service""")

_LOGIN_ROUTER = Template("""\
    # Where people log in: no question to the sidecar.
    login:
      entryPoints: [web]
      rule: $rule
      priority: 1000000
      middlewares: [strip]
      service: login
""")

_LOGIN_SERVICE = Template("""\
    login:
      loadBalancer:
        passHostHeader: true
        servers:
          - url: "http://$login"
""")


def command(parameters: Parameters, file: str) -> list[str]:
    """The command line that runs Traefik with the rendered file."""
    return [
        "traefik",
        f"--entryPoints.web.address={parameters.listen}",
        # X_User_Sub, X.User.Sub and X-User-Sub are one header to many applications.
        "--entryPoints.web.http.aliasHeadersStrategy=reject",
        f"--providers.file.filename={file}",
        "--global.checkNewVersion=false",
        "--global.sendAnonymousUsage=false",
        "--log.level=WARN",
    ]


def render(parameters: Parameters) -> str:
    """The dynamic configuration (file provider). Raises OperatorError where the sidecar listens on a Unix socket."""
    if parameters.sidecar.path:
        raise OperatorError("Traefik asks over TCP only: give the sidecar's host:port (CATALYST_SIDECAR_LISTEN)")
    rule = " || ".join(_host_rule(host) for host in parameters.hosts) or "PathPrefix(`/`)"
    strip = (*parameters.answer_headers, *MISLEADING_HEADERS, *(h for h in CLIENT_ADDRESS_HEADERS if h != "x-real-ip"))
    return _TEMPLATE.substitute(
        application=parameters.application,
        sidecar=parameters.sidecar,
        command=" ".join(command(parameters, FILE)),
        rule=json.dumps(rule),
        login_router=_LOGIN_ROUTER.substitute(rule=json.dumps(_host_rule(parameters.login.host))) if parameters.login else "",
        login_service=_LOGIN_SERVICE.substitute(login=parameters.login.address) if parameters.login else "",
        strip="\n".join(f'          {header}: ""' for header in strip),
        answer="\n".join(f"          - {header}" for header in parameters.answer_headers),
    )


def _host_rule(host: str) -> str:
    """A router rule for one host; a wildcard stands for exactly one label."""
    if host.startswith("*."):
        return "HostRegexp(`^[^.]+" + host[1:].replace(".", "[.]") + "$`)"
    return f"Host(`{host}`)"
