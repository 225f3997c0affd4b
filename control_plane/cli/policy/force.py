"""What puts a policy in force: approvals, publications, the way back."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from control_plane.cli.api import Api
from control_plane.cli.policy.shared import (
    Application,
    AsJson,
    body_of,
    path_of,
    refusals,
    sent,
)
from control_plane.cli.printing import print_items
from control_plane.errors import OperatorError


def approve(
    application: Application,
    etag: Annotated[str, typer.Argument(help="The ETag of the draft that you have read.", metavar="[ETAG]")] = "",
    file: Annotated[Path | None, typer.Option("--file", help="The draft that you have read, as a file.", metavar="FILE")] = None,
    waive: Annotated[
        bool, typer.Option("--waive", help="Agree that the rule of two people be waived once, within an hour.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Agree with a draft that somebody else wrote and somebody else will publish. Exit code 1 where it is another one by now."""
    with Api.from_environ() as api:
        if bool(etag) + (file is not None) + waive != 1:
            raise OperatorError("say what you agree with: the draft's ETAG, or --file FILE, or --waive")
        body: dict[str, object] = {"waive": True} if waive else {"etag": etag or _etag(file)}
        with refusals(file, as_json=as_json):
            approval = api.post(path_of(application, "approve"), body)
    what = "a waiver of the rule" if approval["waive"] else f"the draft {approval['etag']}"
    print(json.dumps(approval) if as_json else f"{application}: {what} is approved by {approval['profile']}")


def _etag(file: Path | None) -> str:
    """The entity tag that the draft has if it is this very file."""
    from control_plane.policies.etag import etag_of

    return etag_of(**sent(file or Path()))


def publish(
    application: Application,
    file: Annotated[Path | None, typer.Argument(help="Stored as the draft first; without: the draft as it is.")] = None,
    note: Annotated[str, typer.Option("--note", help="Why, for those who read the versions later.")] = "",
    as_json: AsJson = False,
) -> None:
    """Put a policy in force, everywhere at once.

    Exit code 1 where the document, one of its tests or a missing approval stands against it.
    """
    with Api.from_environ() as api, refusals(file, as_json=as_json):
        if file is not None:
            api.call("PUT", path_of(application, "draft"), **body_of(file))
        version = api.post(path_of(application, "publish"), {"note": note})
    print(json.dumps(version) if as_json else f"{application}: version {version['version']} is in force")


def rollback(
    application: Application,
    version: Annotated[int, typer.Argument(help="The version to put back in force.")],
    as_json: AsJson = False,
) -> None:
    """Put an earlier version back in force. Exit code 1 where something stands against it."""
    with Api.from_environ() as api, refusals(None, as_json=as_json):
        back = api.post(path_of(application, "rollback"), {"version": version})
    print(json.dumps(back) if as_json else f"{application}: version {back['version']} is in force")


def versions(
    application: Application,
    version: Annotated[
        int | None, typer.Option("--show", help="Print this version as it was written.", metavar="VERSION")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the versions, newest first; or print one of them."""
    with Api.from_environ() as api:
        if version is not None:
            answer = api.document(path_of(application, f"versions/{version}"))
            media_type = answer.headers["content-type"].partition(";")[0]
            shown = {"version": version, "media_type": media_type, "source": answer.text}
            sys.stdout.write(json.dumps(shown) + "\n" if as_json else answer.text)
            return
        items = list(api.pages(path_of(application, "versions")))
    if as_json:
        print(json.dumps(items))
        return
    rows = [{**item, "": "in force" if item["published"] else "", "published": item["created_at"]} for item in items]
    print_items(("version", "", "published", "approved_by", "note"), rows)
