"""Envoy: the `ext_authz` filter over HTTP, envoy dialect.

https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_filters/ext_authz_filter
"""

import json
from string import Template

from control_plane.proxies.parameters import (
    CHECK_TIMEOUT_SECONDS,
    CLIENT_ADDRESS_HEADERS,
    MISLEADING_HEADERS,
    Address,
    Parameters,
)

FILE = "envoy.yaml"
ASKED_HEADERS = (
    "accept",
    "accept-language",
    "cookie",
    "origin",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "traceparent",
    "user-agent",
)
"""What the sidecar is sent of a request beside Host, the method, Authorization and every header that begins with x."""

_FORWARDED_HEADERS = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-forwarded-server")

_TEMPLATE = Template("""\
# Envoy in front of $application, asking Catalyst Auth at $sidecar. Start it with
#   $command
static_resources:
  listeners:
    - name: application
      address: $listen_address
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: application
                # Envoy itself writes X-Forwarded-For and X-Forwarded-Proto from the connection. Where another proxy of yours
                # stands in front, set xff_num_trusted_hops to the number of such proxies.
                use_remote_address: true
                # Before that, what clients say of themselves is removed: Envoy would only append to X-Forwarded-For.
                early_header_mutation_extensions:
                  - name: envoy.http.early_header_mutation.header_mutation
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation
                      mutations:
$strip
                # One reading of the path for the question and for the application. What stays ambiguous (%2f, //) goes to the
                # sidecar, which refuses it unless a policy rule opens it.
                normalize_path: true
                merge_slashes: false
                path_with_escaped_slashes_action: KEEP_UNCHANGED
                common_http_protocol_options:
                  # X_User_Sub and X-User-Sub are one header to many applications.
                  headers_with_underscores_action: REJECT_REQUEST
                  idle_timeout: 60s
                request_headers_timeout: 10s
                # Envoy keeps a 5xx of the sidecar to itself. The client gets a reason all the same.
                local_reply_config:
                  mappers:
                    - filter:
                        and_filter:
                          filters:
                            - response_flag_filter: {flags: [UAEX]}
                            - status_code_filter:
                                comparison: {op: EQ, value: {default_value: 503, runtime_key: catalyst.unavailable}}
                      headers_to_add:
                        - header: {key: x-forward-auth-error, value: sidecar_unavailable}
                      body_format_override:
                        json_format: {error: sidecar_unavailable}
                upgrade_configs:
                  - upgrade_type: websocket
                http_filters:
                  - name: envoy.filters.http.ext_authz
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
                      transport_api_version: V3
                      # No answer is a refusal.
                      failure_mode_allow: false
                      status_on_error: {code: ServiceUnavailable}
                      allowed_headers:
                        patterns:
$asked
                          # X-Api-Key, X-Catalyst-*, X-Forwarded-*; and X.User.Sub and its like, for the sidecar to refuse.
                          - safe_regex: {regex: "x[^a-z0-9].*"}
$look_alikes                      http_service:
                        server_uri:
                          uri: "http://catalyst-sidecar"
                          cluster: catalyst_sidecar
                          timeout: ${timeout}s
                        path_prefix: /forward-auth/envoy
                        authorization_response:
                          # Each of these is taken from the answer and overwrites the client's own copy.
                          allowed_upstream_headers:
                            patterns:
$answer
                          # allowed_client_headers stays unset: all headers of a refusal reach the client.
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
                route_config:
                  virtual_hosts:
                    - name: application
                      domains: $domains
                      routes:
                        - match: {prefix: "/"}
                          route:
                            cluster: application
                            timeout: 60s
                          # Only that of a WebSocket is left by now. What a client names there beside Upgrade, the next hop drops:
                          # it could be x-policy-obligations.
                          request_headers_to_add:
                            - header: {key: connection, value: Upgrade}
                              append_action: OVERWRITE_IF_EXISTS
$login_host                  ignore_port_in_host_matching: true
  clusters:
    - name: application
      type: STRICT_DNS
      connect_timeout: 5s
      load_assignment:
        cluster_name: application
        endpoints:
          - lb_endpoints:
              - endpoint: {address: $application_address}
    - name: catalyst_sidecar
      type: $sidecar_type
      connect_timeout: 1s
      load_assignment:
        cluster_name: catalyst_sidecar
        endpoints:
          - lb_endpoints:
              - endpoint: {address: $sidecar_address}
$login_cluster""")

_LOGIN_HOST = Template("""\
                    # Where people log in: no question to the sidecar.
                    - name: login
                      domains: $domains
                      routes:
                        - match: {prefix: "/"}
                          route:
                            cluster: login
                            timeout: 60s
                          typed_per_filter_config:
                            envoy.filters.http.ext_authz:
                              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
                              disabled: true
""")

_LOGIN_CLUSTER = Template("""\
    - name: login
      type: STRICT_DNS
      connect_timeout: 5s
      load_assignment:
        cluster_name: login
        endpoints:
          - lb_endpoints:
              - endpoint: {address: $address}
""")


def command(parameters: Parameters, file: str) -> list[str]:  # noqa: ARG001  (one signature for every proxy)
    """The command line that runs Envoy with the rendered file."""
    return ["envoy", "--config-path", file, "--use-dynamic-base-id", "--log-level", "warning"]


def render(parameters: Parameters) -> str:
    """The bootstrap file."""
    return _TEMPLATE.substitute(
        application=parameters.application,
        sidecar=parameters.sidecar,
        command=" ".join(command(parameters, FILE)),
        timeout=CHECK_TIMEOUT_SECONDS,
        asked="\n".join(f"{' ' * 26}- exact: {header}" for header in ASKED_HEADERS),
        listen_address=_address(parameters.listen),
        application_address=_address(parameters.application),
        sidecar_address=_address(parameters.sidecar),
        sidecar_type="STATIC" if parameters.sidecar.path else "STRICT_DNS",
        domains=json.dumps(list(parameters.hosts) or ["*"]),
        login_host=_LOGIN_HOST.substitute(domains=json.dumps([parameters.login.host])) if parameters.login else "",
        login_cluster=_LOGIN_CLUSTER.substitute(address=_address(parameters.login.address)) if parameters.login else "",
        answer="\n".join(f"{' ' * 30}- exact: {header}" for header in parameters.answer_headers),
        strip="\n".join(f"{' ' * 24}- remove: {header}" for header in stripped_headers(parameters)),
        look_alikes="".join(
            f"{' ' * 26}- safe_regex: {{regex: {json.dumps(header.replace('-', '[^a-z0-9]'))}}}\n"
            for header in parameters.headers
            if "-" in header and not header.startswith("x-")
        ),
    )


def stripped_headers(parameters: Parameters) -> tuple[str, ...]:
    """What is removed of a request before anything reads it."""
    return (*_FORWARDED_HEADERS, *MISLEADING_HEADERS, *CLIENT_ADDRESS_HEADERS, *parameters.answer_headers)


def _address(address: Address) -> str:
    """An Envoy address in flow style."""
    if address.path:
        return json.dumps({"pipe": {"path": address.path}})
    return json.dumps({"socket_address": {"address": address.bare_host, "port_value": address.port}})
