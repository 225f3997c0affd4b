"""What the provider answers: OpenID Connect Core, Discovery, RP-Initiated and Back-Channel Logout, RFC 7636, 9068 and 9207."""

import asyncio
import base64
import hashlib
import html
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit
from uuid import uuid4

import httpx2
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.providers.liar_tokens import LOGOUT_EVENT, at_hash, sign
from tests.providers.liar_world import FAILURES, GOLD, SILVER, Client, Denied, Grant, Login, Person, World


class Endpoints(World):
    """The protocol."""

    def routes(self) -> list[Route]:
        """Every endpoint of the protocol, each with its ways to fail."""
        honest: dict[str, tuple[str, Any, list[str]]] = {
            "discovery": ("/.well-known/openid-configuration", self._discovery, ["GET"]),
            "jwks": ("/jwks", self._jwks, ["GET"]),
            "authorize": ("/authorize", self._authorize, ["GET", "POST"]),
            "token": ("/token", self._token, ["POST"]),
            "userinfo": ("/userinfo", self._userinfo, ["GET", "POST"]),
            "end_session": ("/end_session", self._end_session, ["GET", "POST"]),
        }
        return [Route(path, self._failing(name, it), methods=methods) for name, (path, it, methods) in honest.items()]

    def access_token(self, subject: str, audience: str, client: str = "catalyst", **claims: Any) -> str:
        """A JWT access token (RFC 9068)."""
        now = int(time.time())
        content = {"iss": self.issuer, "sub": subject, "aud": audience, "client_id": client, "jti": uuid4().hex, "iat": now}
        return sign(content | {"exp": now + self.token_seconds} | claims, self.keys[0], "at+jwt", self.lies)

    def logout_token(self, subject: str | None, sid: str | None = None, client: str = "catalyst", **claims: Any) -> str:
        """OpenID Connect Back-Channel Logout 1.0 section 2.4."""
        now = int(time.time())
        content = {"iss": self.issuer, "aud": client, "iat": now, "exp": now + 120, "jti": uuid4().hex}
        content["events"] = {LOGOUT_EVENT: {}}
        known = {name: value for name, value in (("sub", subject), ("sid", sid)) if value is not None}
        return sign(content | known | claims, self.keys[0], "logout+jwt", self.lies)

    async def send_logout(self, subject: str, *, sid: str | None = None) -> list[int]:
        """Tell the clients where somebody has logged in that this is over; what they answered."""
        ended = [key for key, login in self.logins.items() if login.subject == subject and sid in (None, login.sid)]
        logins = [self.logins.pop(key) for key in ended]
        answers = []
        async with httpx2.AsyncClient(timeout=10) as http:
            for login in logins:
                for client in (self.clients[name] for name in sorted(login.clients)):
                    if client.backchannel_logout_uri:
                        form = {"logout_token": self.logout_token(subject, login.sid, client.id)}
                        answers.append((await http.post(client.backchannel_logout_uri, data=form)).status_code)
        return answers

    def _failing(self, name: str, honest: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint with its ways to fail."""

        async def endpoint(request: Request) -> Response:
            self.requests[name] += 1
            told = {failure for failure in FAILURES if f"{failure}_{name}" in self.lies}
            if "silent" in told:
                while (await request.receive())["type"] != "http.disconnect":
                    pass
            if "slow" in told:
                await asyncio.sleep(2)
            failures: dict[str, Callable[[], Response]] = {
                "error": lambda: Response("a stack trace with /etc/secrets", 500),
                "huge": lambda: Response(b'{"a": "' + b"x" * 8_000_000 + b'"}', media_type="application/json"),
                "not_json": lambda: HTMLResponse("<h1>Please hold the line</h1>"),
                "redirect": lambda: RedirectResponse("http://127.0.0.1:1/inside", 302),
            }
            for failure, answer in failures.items():
                if failure in told:
                    return answer()
            return await honest(request)

        return endpoint

    async def _discovery(self, _: Request) -> Response:
        told = {
            "issuer": self.issuer,
            **{f"{name}_endpoint": f"{self.issuer}/{name}" for name in ("token", "userinfo", "end_session")},
            "authorization_endpoint": f"{self.issuer}/authorize",
            "jwks_uri": f"{self.issuer}/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": sorted({key.algorithm for key in self.keys} | {"RS256"}),
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
            "code_challenge_methods_supported": ["S256"],
            "acr_values_supported": [SILVER, GOLD],
            "scopes_supported": ["openid", "profile", "email", "groups"],
            "authorization_response_iss_parameter_supported": True,
            "backchannel_logout_supported": True,
            "backchannel_logout_session_supported": True,
        }
        if "metadata_issuer" in self.lies:
            told["issuer"] = "https://somebody-else.example"
        if "metadata_no_end_session" in self.lies:
            del told["end_session_endpoint"]
        if "metadata_no_pkce" in self.lies:
            del told["code_challenge_methods_supported"]
        if "metadata_no_pkce_at_all" in self.lies:
            told["code_challenge_methods_supported"] = ["plain"]
        if "metadata_no_algorithm" in self.lies:
            told["id_token_signing_alg_values_supported"] = ["HS256", "none"]
        if "metadata_tokens_only" in self.lies:
            del told["authorization_endpoint"], told["token_endpoint"]
        if "metadata_private_endpoints" in self.lies:
            told["token_endpoint"] = told["jwks_uri"] = "http://169.254.169.254/latest/meta-data"
        return JSONResponse(told)

    async def _jwks(self, _: Request) -> Response:
        return JSONResponse({"keys": [key.jwk() for key in self.keys]})

    async def _authorize(self, request: Request) -> Response:
        asked: dict[str, str] = dict(request.query_params)
        chosen = (await _form_of(request)).get("person")
        client = self.clients.get(asked.get("client_id", ""))
        target = asked.get("redirect_uri", "")
        if client is None or not target or (client.redirect_uris is not None and target not in client.redirect_uris):
            return HTMLResponse("<h1>unknown client or redirect_uri</h1>", 400)
        try:
            login = self._who(request, asked, chosen)
            if login is None:
                return HTMLResponse(_form(asked))
            return self._back(asked, {"code": self._code(asked, client, login)}, login)
        except Denied as denied:
            return self._back(asked, dict(zip(("error", "error_description"), denied.args, strict=True)), None)

    def _who(self, request: Request, asked: dict[str, str], chosen: str | None) -> Login | None:
        """The login that an authorization request ends with; None: a form must be filled."""
        known = self.logins.get(request.cookies.get("liar", ""))
        again = self._again(asked, known)
        if known is not None and not again:
            return known
        hinted = asked.get("login_hint") if self.follow_hint else None
        name = chosen or hinted or (known.subject if known and self.auto else None) or self.auto
        person = next((p for p in self.people.values() if name in (p.subject, p.email)), None)
        if "none" in asked.get("prompt", "").split() and (person is None or chosen is None):
            raise Denied("login_required", "Nobody is logged in here.")
        if person is None:
            return None
        acr, amr = self._level(asked, person)
        sid = known.sid if known is not None and known.subject == person.subject else uuid4().hex
        clients = known.clients if known is not None and known.subject == person.subject else set[str]()
        return Login(person.subject, sid, int(time.time()), acr, amr, clients)

    def _again(self, asked: dict[str, str], known: Login | None) -> bool:
        """Whether somebody who is logged in is asked again."""
        if known is None:
            return False
        too_old = asked.get("max_age", "").isdigit() and time.time() - known.auth_time >= int(asked["max_age"])
        too_low = GOLD in asked.get("acr_values", "").split() and known.acr != GOLD
        told = "login" in asked.get("prompt", "").split()
        return (
            (too_old and "ignores_max_age" not in self.lies)
            or (too_low and "ignores_acr_values" not in self.lies)
            or (told and "ignores_prompt" not in self.lies)
        )

    def _level(self, asked: dict[str, str], person: Person) -> tuple[str, list[str]]:
        """acr and amr of a login."""
        if GOLD not in asked.get("acr_values", "").split() or "ignores_acr_values" in self.lies:
            return SILVER, ["pwd"]
        if not person.second_factor:
            raise Denied("unmet_authentication_requirements", "No second factor is registered.")
        return GOLD, ["pwd", "otp", "mfa"]

    def _code(self, asked: dict[str, str], client: Client, login: Login) -> str:
        """OpenID Connect Core 3.1.2.1, with PKCE required (RFC 9700 section 2.1.1)."""
        if asked.get("response_type") != "code" or "openid" not in asked.get("scope", "").split():
            raise Denied("invalid_request", "response_type code and scope openid")
        if asked.get("code_challenge_method") != "S256" and "ignores_pkce" not in self.lies:
            raise Denied("invalid_request", "PKCE by S256")
        code = secrets.token_urlsafe(24)
        login.clients.add(client.id)
        challenge, scope = asked.get("code_challenge"), asked["scope"]
        self.codes[code] = Grant(client.id, asked["redirect_uri"], asked.get("nonce"), challenge, scope, replace(login))
        return code

    def _back(self, asked: dict[str, str], said: dict[str, str], login: Login | None) -> Response:
        """To the client, with RFC 9207's `iss`."""
        said |= {"state": asked["state"]} if "state" in asked and "missing_state" not in self.lies else {}
        if "wrong_state" in self.lies:
            said["state"] = "the-state-of-another-browser"
        if "missing_iss" not in self.lies:
            said["iss"] = "https://somebody-else.example" if "wrong_iss" in self.lies else self.issuer
        target = asked["redirect_uri"]
        answer = RedirectResponse(f"{target}{'&' if urlsplit(target).query else '?'}{urlencode(said)}", 303)
        if login is not None:
            key = next((key for key, known in self.logins.items() if known.sid == login.sid), secrets.token_urlsafe(24))
            self.logins[key] = login
            answer.set_cookie("liar", key, httponly=True, samesite="lax")
        return answer

    async def _token(self, request: Request) -> Response:
        form = await _form_of(request)
        try:
            client = self._client(request, form)
            return JSONResponse(self._exchange(client, form), headers={"cache-control": "no-store"})
        except Denied as denied:
            status = 401 if denied.args[0] == "invalid_client" else 400
            return JSONResponse({"error": denied.args[0], "error_description": denied.args[1]}, status)

    def _client(self, request: Request, form: dict[str, str]) -> Client:
        """RFC 6749 section 2.3.1: by Basic, or in the form."""
        given, secret = form.get("client_id", ""), form.get("client_secret", "")
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "basic":
            given, _, secret = (unquote_plus(part) for part in base64.b64decode(value).decode().partition(":"))
        client = self.clients.get(given)
        if client is None or client.secret != secret or "wrong_client_secret" in self.lies:
            raise Denied("invalid_client", "Who are you?")
        return client

    def _exchange(self, client: Client, form: dict[str, str]) -> dict[str, Any]:
        """A code for tokens. Codes are good once, for a minute, for their client, address and verifier."""
        grant = self.codes.get(form.get("code", ""))
        honest = "replayed_code" not in self.lies
        if honest:
            self.codes.pop(form.get("code", ""), None)
        if form.get("grant_type") != "authorization_code" or grant is None or time.monotonic() - grant.made > 60:
            raise Denied("invalid_grant", "No such code.")
        if honest and (grant.client != client.id or grant.redirect_uri != form.get("redirect_uri")):
            raise Denied("invalid_grant", "The code is for another client or address.")
        verifier = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        proved = base64.urlsafe_b64encode(verifier).decode().rstrip("=") == grant.challenge
        if honest and not proved and "ignores_pkce" not in self.lies:
            raise Denied("invalid_grant", "The verifier does not fit.")
        access = self.access_token(grant.login.subject, self.issuer, client.id)
        self.access_tokens[access] = grant.login.subject
        said = {"access_token": access, "token_type": "Bearer", "expires_in": self.token_seconds, "scope": grant.scope}
        return said if "no_id_token" in self.lies else said | {"id_token": self._id_token(grant, access)}

    def _id_token(self, grant: Grant, access: str) -> str:
        login, now = grant.login, int(time.time())
        claims = {"iss": self.issuer, "sub": login.subject, "aud": grant.client, "iat": now, "exp": now + self.token_seconds}
        claims |= {"sid": login.sid, "auth_time": login.auth_time, "acr": login.acr, "amr": login.amr}
        claims |= {"at_hash": at_hash(access, self.keys[0].algorithm)}
        claims |= {} if grant.nonce is None else {"nonce": grant.nonce}
        if "few_claims" not in self.lies:
            claims |= self._claims(login.subject)
        return sign(claims, self.keys[0], "JWT", self.lies)

    def _claims(self, subject: str) -> dict[str, Any]:
        person = self.people[subject]
        return {"email": person.email, "email_verified": person.email_verified, "name": person.name, "groups": person.groups}

    async def _userinfo(self, request: Request) -> Response:
        subject = self.access_tokens.get(request.headers.get("authorization", "").removeprefix("Bearer "))
        if subject is None:
            return JSONResponse({"error": "invalid_token"}, 401)
        if "userinfo_of_somebody_else" in self.lies:
            subject = next(other for other in self.people if other != subject)
        return JSONResponse({"sub": subject, **self._claims(subject)})

    async def _end_session(self, request: Request) -> Response:
        """OpenID Connect RP-Initiated Logout 1.0. The other clients of the login are told by the back channel."""
        asked = {**request.query_params, **await _form_of(request)}
        login = self.logins.pop(request.cookies.get("liar", ""), None)
        target = asked.get("post_logout_redirect_uri", "")
        client = self.clients.get(asked.get("client_id") or _audience(asked.get("id_token_hint", "")))
        if login is not None and client is not None:
            login.clients.discard(client.id)
            self.logins[login.sid] = login
            await self.send_logout(login.subject, sid=login.sid)
        known = client is not None and target and target in (client.post_logout_redirect_uris or [target])
        state = f"?{urlencode({'state': asked['state']})}" if "state" in asked else ""
        answer: Response = RedirectResponse(target + state, 303) if known else HTMLResponse("<h1>You are logged out</h1>")
        answer.delete_cookie("liar")
        return answer


async def _form_of(request: Request) -> dict[str, str]:
    """The form that was posted; nothing where none was."""
    return dict(parse_qsl((await request.body()).decode(), keep_blank_values=True))


def _audience(token: str) -> str:
    try:
        part = token.split(".")[1]
        return str(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["aud"])
    except (IndexError, ValueError, KeyError):
        return ""


def _form(asked: dict[str, str]) -> str:
    """A page with one field: who."""
    action = html.escape("/authorize?" + urlencode(asked))
    hint = html.escape(asked.get("login_hint", ""))
    return (
        '<!doctype html><html lang="en"><title>Provider</title><h1>Log in at the provider</h1>'
        f'<form method="post" action="{action}"><label>Person <input name="person" autofocus value="{hint}"></label>'
        "<button>Log in</button></form></html>"
    )
