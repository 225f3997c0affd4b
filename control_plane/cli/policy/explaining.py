"""Why a request would pass or not: asked of a sidecar on this machine, or of the control plane."""

import json
import os
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from control_plane.cli.api import Api, ask_sidecar
from control_plane.cli.policy.shared import AsJson, path_of
from control_plane.errors import OperatorError


def explain(
    method: Annotated[str, typer.Argument(help="The request's method.")],
    url: Annotated[str, typer.Argument(help="The request's URL, https://orders.example.com/orders/1")],
    profile: Annotated[str, typer.Option("--profile", help="Who asks: a profile's id. Without: nobody.")] = "",
    org: Annotated[str, typer.Option("--org", help="In which org (slug or id).")] = "",
    *,
    client: Annotated[str, typer.Option("--client", help="From which address.")] = "127.0.0.1",
    application: Annotated[
        str, typer.Option("--application", help="Ask the control plane, by this application's policy in force.")
    ] = "",
    draft: Annotated[bool, typer.Option("--draft", help="With --application: by its draft.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask a sidecar on this machine how it would decide, and why. CATALYST_SIDECAR_OPS_LISTEN says where it is.

    Exit code 0 where the request would pass, 1 where it would not.
    """
    if bool(profile) != bool(org):
        raise OperatorError("--profile and --org belong together: entitlements are a profile's in an org")
    if draft and not application:
        raise OperatorError("--draft goes with --application: sidecars do not decide by drafts")
    question: dict[str, Any] = {"method": method, "url": url, "client": client}
    if profile:
        question["principal"] = {"profile": profile, "org": org}
    answer = _of_control_plane(application, question | {"draft": draft}) if application else _of_sidecar(question)
    if as_json:
        print(json.dumps(answer))
    else:
        _print_explanation(answer["explanation"])
    raise typer.Exit(0 if answer["explanation"]["decision"]["effect"] == "allow" else 1)


def _of_sidecar(question: Mapping[str, Any]) -> Any:
    return ask_sidecar(os.environ.get("CATALYST_SIDECAR_OPS_LISTEN") or "127.0.0.1:9787", "/explain", question)


def _of_control_plane(application: str, question: Mapping[str, Any]) -> Any:
    with Api.from_environ() as api:
        return {"explanation": api.post(path_of(application, "explain"), question)}


def _print_explanation(explanation: Mapping[str, Any]) -> None:
    decision = explanation["decision"]
    print(f"{decision['effect']}: {decision['reason']}")
    for rule in explanation["rules"]:
        mark = "decided" if rule["decided"] else "matched" if rule["matched"] else "       "
        print(f"  {mark}  {rule['id']} ({rule['effect']})")
        for unmet in rule["unmet"]:
            print(f"             {unmet['what']}: {unmet['detail']}")
