"""nginx: the `auth_request` module, nginx dialect.

https://nginx.org/en/docs/http/ngx_http_auth_request_module.html
"""

from collections.abc import Sequence
from string import Template

from control_plane.proxies.parameters import (
    CHECK_TIMEOUT_SECONDS,
    CLIENT_ADDRESS_HEADERS,
    MISLEADING_HEADERS,
    Parameters,
)

FILE = "nginx.conf"

_TEMPLATE = Template("""\
# nginx in front of ${application}, asking Catalyst Auth at ${sidecar}. Start it with
#   ${command}
worker_processes auto;
error_log stderr warn;
pid nginx.pid;

events {}

http {
    # Both are the defaults, and must stay: names such as X_User_Sub or X.User.Sub are dropped.
    ignore_invalid_headers on;
    underscores_in_headers off;
    access_log off;
    server_tokens off;

    client_body_temp_path nginx-body-temp;
    proxy_temp_path       nginx-proxy-temp;
    fastcgi_temp_path     nginx-fastcgi-temp;
    uwsgi_temp_path       nginx-uwsgi-temp;
    scgi_temp_path        nginx-scgi-temp;

    upstream catalyst_sidecar {
        # max_fails=0: a sidecar that comes back is asked at once.
        server ${sidecar} max_fails=0;
        keepalive 32;
    }
    upstream application {
        server ${application} max_fails=0;
        keepalive 32;
    }
    # WebSockets and nothing else: an upgrade to h2c would carry requests past the check.
    map $$http_upgrade $$catalyst_upgrade {
        default          "";
        "~*^websocket$$" websocket;
    }
    map $$catalyst_upgrade $$catalyst_connection {
        default   "";
        websocket upgrade;
    }

${other_hosts}    server {
        listen ${listen};
        server_name ${names};
        auth_request /.catalyst/check;
        # From the answer; empty where there is nothing, and then nginx sends none and drops the client's own copy.
${take}

        location / {
            # The path goes on exactly as the client wrote it (no path after the name here), which is what $$request_uri says.
            proxy_pass http://application;
            proxy_http_version 1.1;
            proxy_set_header Host $$http_host;
            proxy_set_header Connection $$catalyst_connection;
            proxy_set_header Upgrade $$catalyst_upgrade;
            proxy_set_header X-Forwarded-For $$remote_addr;
            proxy_set_header X-Forwarded-Proto $$scheme;
            proxy_set_header X-Forwarded-Host $$http_host;
            proxy_set_header X-Forwarded-Port $$server_port;
            proxy_set_header X-Real-IP $$remote_addr;
${send}
            # What could make the application serve another path than the one that was judged, or believe another client.
${remove}
            # Only refusals of the check end here: answers of the application are passed on as they are.
            error_page 401 403 500 = @catalyst_refusal;
        }

        location = /.catalyst/check {
            internal;
            # Without an entry here, this location would be checked in turn.
            auth_request off;
            proxy_pass http://catalyst_sidecar/forward-auth/nginx;
${question}
            # An answer's head can hold 8 KiB of entitlements and as much of each of its other lists.
            proxy_buffer_size 64k;
            proxy_buffers 4 64k;
        }

        # Of a refusal the check hands on 401 or 403 and no more. Here the sidecar is asked again, where it never allows anything,
        # and its whole answer goes to the browser: the way to the login page, the page for people, the reason.
        location @catalyst_refusal {
            auth_request off;
            rewrite ^ /forward-auth/nginx/refusal? break;
            proxy_pass http://catalyst_sidecar;
            proxy_method GET;
            proxy_redirect off;
${question}
            recursive_error_pages on;
            error_page 502 504 = @catalyst_unavailable;
        }

        # Paths of the login on this host; the application never sees them.
        location ^~ /.catalyst/ {
            auth_request off;
            error_page 418 = @catalyst_refusal;
            return 418;
        }

        location @catalyst_unavailable {
            auth_request off;
            default_type application/json;
            add_header x-forward-auth-error sidecar_unavailable always;
            return 503 "{\\"error\\":\\"sidecar_unavailable\\"}\\n";
        }
    }
${login}}
""")

_LOGIN = Template("""\
    # Where people log in: no question to the sidecar.
    server {
        listen ${listen};
        server_name ${host};
        location / {
            proxy_pass http://${login};
            proxy_http_version 1.1;
            proxy_set_header Host $$http_host;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $$remote_addr;
            proxy_set_header X-Forwarded-Proto $$scheme;
            proxy_set_header X-Forwarded-Host $$http_host;
            proxy_set_header X-Forwarded-Port $$server_port;
            proxy_set_header X-Real-IP $$remote_addr;
${remove}
        }
    }
""")

_QUESTION = Template("""\
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_set_header X-Original-Method $$request_method;
            proxy_set_header X-Original-URL $$scheme://$$http_host$$request_uri;
            # The peer of this connection. Where another proxy of yours stands in front, configure the realip module.
            proxy_set_header X-Forwarded-For $$remote_addr;
            proxy_connect_timeout 1s;
            proxy_send_timeout ${timeout}s;
            proxy_read_timeout ${timeout}s;""")

_OTHER_HOSTS = Template("""\
    # Any other host.
    server {
        listen ${listen} default_server;
        return 421;
    }
""")


def command(parameters: Parameters, file: str) -> list[str]:  # noqa: ARG001  (one signature for every proxy)
    """The command line that runs nginx with the rendered file, in the directory of that file."""
    return ["nginx", "-p", ".", "-c", file, "-e", "stderr", "-g", "daemon off;"]


def render(parameters: Parameters) -> str:
    """nginx.conf."""
    dropped = (*MISLEADING_HEADERS, *(h for h in CLIENT_ADDRESS_HEADERS if h != "x-real-ip"))
    return _TEMPLATE.substitute(
        login=_login(parameters, (*dropped, *parameters.answer_headers)),
        application=parameters.application,
        sidecar=parameters.sidecar,
        command=" ".join(command(parameters, FILE)[:-1]) + ' "daemon off;"',
        listen=parameters.listen,
        other_hosts=_OTHER_HOSTS.substitute(listen=parameters.listen) if parameters.hosts else "",
        names=" ".join(parameters.hosts) or "_",
        take="\n".join(
            f"        auth_request_set {_variable(header)} $upstream_http_{header.replace('-', '_')};"
            for header in parameters.answer_headers
        ),
        send="\n".join(f"            proxy_set_header {header} {_variable(header)};" for header in parameters.answer_headers),
        remove="\n".join(f'            proxy_set_header {header} "";' for header in dropped),
        question=_QUESTION.substitute(timeout=CHECK_TIMEOUT_SECONDS),
    )


def _login(parameters: Parameters, removed: Sequence[str]) -> str:
    """The server of the login host, where it is this proxy's."""
    if not parameters.login:
        return ""
    return _LOGIN.substitute(
        listen=parameters.listen,
        host=parameters.login.host,
        login=parameters.login.address,
        remove="\n".join(f'            proxy_set_header {header} "";' for header in removed),
    )


def _variable(header: str) -> str:
    """The variable that keeps one header of the answer."""
    return "$catalyst_" + header.replace("-", "_")
