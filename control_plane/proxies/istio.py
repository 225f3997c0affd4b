"""Istio: an external authorizer of its ingress gateway, envoy dialect.

https://istio.io/latest/docs/tasks/security/authorization/authz-custom/
https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/#MeshConfig-ExtensionProvider-EnvoyExternalAuthorizationHttpProvider
"""

from string import Template

from control_plane.errors import OperatorError
from control_plane.proxies.envoy import ASKED_HEADERS, stripped_headers
from control_plane.proxies.parameters import CHECK_TIMEOUT_SECONDS, Parameters

FILE = "catalyst-istio.yaml"

_TEMPLATE = Template("""\
# Istio's ingress gateway asking Catalyst Auth at $sidecar. Two parts:
#   1. the first document goes into the mesh configuration (istioctl: spec.meshConfig; Helm: meshConfig of the istiod chart);
#   2. the others are applied as they are: kubectl apply -f, without the first document.
# They hold for every host of the gateway whose pods have the label `istio: ingressgateway` in istio-system: change both where
# yours are others. Name the gateway's addresses at the sidecar in CATALYST_SIDECAR_TRUSTED_PROXIES. Where another proxy of yours
# stands in front, set gatewayTopology.numTrustedProxies of the mesh to the number of such proxies.
meshConfig:
  # One reading of the path for the question and for the application. What stays ambiguous (%2f, //) goes to the sidecar, which
  # refuses it unless a policy rule opens it.
  pathNormalization:
    normalization: BASE
  extensionProviders:
    - name: catalyst
      envoyExtAuthzHttp:
        service: $host
        port: $port
        timeout: ${timeout}s
        # No answer is a refusal.
        failOpen: false
        statusOnError: "503"
        pathPrefix: /forward-auth/envoy
        includeRequestHeadersInCheck:
$asked
          # X-Api-Key, X-Catalyst-*, X-Forwarded-*; and X.User.Sub and its like, for the sidecar to refuse.
          - "x*"
$look_alikes        # Each of these is taken from the answer and overwrites the client's own copy.
        headersToUpstreamOnAllow:
$answer
        # headersToDownstreamOnDeny stays unset: all headers of a refusal reach the client.
---
# The sidecar is asked about every request$but. A rule here that named other hosts or paths would let them pass.
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: catalyst
  namespace: istio-system
spec:
  selector:
    matchLabels:
      istio: ingressgateway
  action: CUSTOM
  provider:
    name: catalyst
  rules:
$rules
---
# What a client says of itself is removed before anything reads it.
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata:
  name: catalyst
  namespace: istio-system
spec:
  workloadSelector:
    labels:
      istio: ingressgateway
  configPatches:
    - applyTo: NETWORK_FILTER
      match:
        context: GATEWAY
        listener:
          filterChain:
            filter:
              name: envoy.filters.network.http_connection_manager
      patch:
        operation: MERGE
        value:
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
            use_remote_address: true
            normalize_path: true
            merge_slashes: false
            path_with_escaped_slashes_action: KEEP_UNCHANGED
            common_http_protocol_options:
              # X_User_Sub and X-User-Sub are one header to many applications.
              headers_with_underscores_action: REJECT_REQUEST
            early_header_mutation_extensions:
              - name: envoy.http.early_header_mutation.header_mutation
                typed_config:
                  "@type": type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation
                  mutations:
$strip
    # Only the Connection of a WebSocket is left by then. What a client names there beside Upgrade, the next hop drops: it could
    # be x-policy-obligations.
    - applyTo: ROUTE_CONFIGURATION
      match:
        context: GATEWAY
      patch:
        operation: MERGE
        value:
          request_headers_to_add:
            - header: {key: connection, value: Upgrade}
              append_action: OVERWRITE_IF_EXISTS
""")


_LOGIN_RULE = Template("""\
    # Where people log in: a Gateway and a VirtualService of its own send it to $login and nowhere else.
    - to:
        - operation:
            notHosts: ["$host", "$host:*"]""")


def render(parameters: Parameters) -> str:
    """The mesh's provider, and what is applied beside it. Raises OperatorError for what Istio says elsewhere."""
    problems = []
    if parameters.sidecar.path:
        problems.append("Istio asks over TCP only: give the sidecar's host:port (CATALYST_SIDECAR_LISTEN)")
    if parameters.hosts:
        problems.append("Istio's hosts stand in its Gateway: leave --host out, the sidecar is asked about all of them")
    if problems:
        raise OperatorError(*problems)
    families = sorted({header.partition("-")[0] for header in parameters.headers if not header.startswith("x-")})
    return _TEMPLATE.substitute(
        sidecar=parameters.sidecar,
        host=parameters.sidecar.bare_host,
        port=parameters.sidecar.port,
        timeout=CHECK_TIMEOUT_SECONDS,
        asked="\n".join(f"          - {header}" for header in sorted((*ASKED_HEADERS, "authorization"))),
        but=" but the login host's" if parameters.login else "",
        rules=_LOGIN_RULE.substitute(host=parameters.login.host, login=parameters.login.address)
        if parameters.login
        else "    - {}",
        look_alikes="".join(f'          - "{family}*"\n' for family in families),
        answer="\n".join(f"          - {header}" for header in parameters.answer_headers),
        strip="\n".join(f"{' ' * 20}- remove: {header}" for header in stripped_headers(parameters)),
    )
