"""`python -m control_plane.demo.canaille_server FILE`: Canaille with what `control_plane.demo.provider` wrote into FILE.

Canaille asks everybody for the same factors. One hook is added here: a second factor for who is asked for one by `acr_values`, as
the providers of companies have it. And one page: a phone's one-time codes, since nobody will register theirs for a tour.
"""

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from control_plane.demo.provider import SECOND_FACTOR

if TYPE_CHECKING:
    from flask import Flask

_CODE_SECONDS: Final = 120


def create(configuration: dict[str, Any]) -> "Flask":
    """The provider as a WSGI application."""
    from canaille import create_app

    app: Flask = create_app(
        {
            "SECRET_KEY": configuration["secret_key"],
            "SERVER_NAME": f"127.0.0.1:{configuration['port']}",
            "PREFERRED_URL_SCHEME": "http",
            "CANAILLE": {
                "NAME": "Acme",
                "DATABASE": "memory",
                "SMTP": None,
                "LOGO": None,
                "FAVICON": None,
                "ENABLE_PASSWORD_RECOVERY": False,
                "TOTP_LIFETIME": _CODE_SECONDS,
            },
            "CANAILLE_OIDC": {"ACTIVE_JWKS": [configuration["signing_key"]]},
        }
    )
    with app.app_context():
        _register(configuration["client"])
        for account in configuration["accounts"]:
            _admit(account)
    _ask_for_second_factors(app)
    _show_phones(app, {account["name"]: account["phone"] for account in configuration["accounts"]})
    return app


def _register(client: dict[str, str]) -> None:
    from canaille.app import models
    from canaille.backends import Backend

    made = models.Client(
        client_id=client["id"],
        client_secret=client["secret"],
        client_name="Catalyst Auth",
        # An address on this machine: no question whether Catalyst Auth may know who logs in.
        client_uri="http://127.0.0.1",
        redirect_uris=[client["callback"]],
        post_logout_redirect_uris=[client["after_logout"]],
        grant_types=["authorization_code"],
        response_types=["code"],
        scope=["openid", "profile", "email", "groups"],
        token_endpoint_auth_method="client_secret_basic",
        id_token_signed_response_alg="RS256",
    )
    # Once for its id, which the audience of its tokens is made of.
    Backend.instance.save(made)
    made.audience = [made]
    Backend.instance.save(made)


def _admit(account: dict[str, str]) -> None:
    from datetime import UTC, datetime

    from canaille.app import models
    from canaille.backends import Backend

    person = models.User(
        user_name=account["name"],
        formatted_name=account["name"].title(),
        family_name=account["name"].title(),
        emails=[account["email"]],
        password=account["password"],
        secret_token=account["phone"],
        # Without it Canaille would have a phone registered first.
        last_otp_login=datetime.now(UTC),
    )
    Backend.instance.save(person)


def _ask_for_second_factors(app: "Flask") -> None:
    """Where `acr_values` names the second factor and this login was without: the code first, then on as asked."""
    from canaille.core.auth import AuthenticationSession, redirect_to_next_auth_step
    from flask import g, request, session

    @app.before_request
    def second_factor() -> Any:
        wanted = request.endpoint == "oidc.endpoints.authorize" and SECOND_FACTOR in request.args.get("acr_values", "").split()
        # Nobody is logged in: Canaille asks for the password, and comes back here.
        if not wanted or not g.session or "otp" in (g.session.authentication_methods or ()):
            return None
        session["redirect-after-login"] = request.url
        g.auth = AuthenticationSession(
            user_name=g.session.user.user_name, remaining=["otp"], achieved=["password"], template="oidc/auth.html"
        )
        g.auth.save()
        return redirect_to_next_auth_step()


def _show_phones(app: "Flask", phones: dict[str, str]) -> None:
    import otpauth

    @app.get("/phone/<name>")
    def code(name: str) -> tuple[str, int, dict[str, str]]:
        if name not in phones:
            return "Nobody has this phone\n", 404, {"content-type": "text/plain"}
        phone = otpauth.TOTP(phones[name].encode(), period=_CODE_SECONDS)
        return f"{phone.string_code(phone.generate())}\n", 200, {"content-type": "text/plain", "cache-control": "no-store"}


def main(file: str) -> None:
    """Serve until SIGTERM."""
    from werkzeug.serving import make_server

    # A line for each request would keep the codes that people log in with.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    configuration = json.loads(Path(file).read_text(encoding="utf-8"))
    make_server("127.0.0.1", configuration["port"], create(configuration), threaded=True).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
