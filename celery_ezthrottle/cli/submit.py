"""``celery -A proj ezthrottle submit``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from celery_ezthrottle.client.ezthrottle import EZThrottle

from .errors import configuration_errors, service_errors

__all__ = ["submit"]


@click.command()
@click.argument("url")
@click.option("--method", help="HTTP method.  [default: GET, or POST with a body]")
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="'NAME: VALUE'",
    help="A header; @FILE: one from each line of a file, and not from the command line, which others can see.",
)
@click.option("--data", metavar="TEXT", help="The body; @FILE: that of a file; @-: standard input.")
@click.option("--json", "json_text", metavar="JSON", help="The same, for JSON: Content-Type says so.")
@click.option("--webhook", "webhooks", multiple=True, metavar="URL", help="Where the result goes. May be repeated.")
@click.option("--region", "regions", multiple=True, help="A region that executes the job. May be repeated.")
@click.option("--key", help="Idempotency key: jobs with the same key are one job.")
@click.option("--metadata", metavar="JSON", help="An object that is sent back in the webhook.")
@click.pass_context
def submit(
    context: click.Context,
    url: str,
    method: str | None,
    headers: tuple[str, ...],
    data: str | None,
    json_text: str | None,
    webhooks: tuple[str, ...],
    regions: tuple[str, ...],
    key: str | None,
    metadata: str | None,
) -> None:
    """Submit a request to EZThrottle as a job, and print the JSON of its answer. The result goes to the webhooks."""
    if data is not None and json_text is not None:
        raise click.UsageError("--data and --json are two bodies: give one of them.")
    given = _headers(headers)
    if json_text is not None:
        data = _content(json_text)
        _parsed("--json", data)
        given = {"Content-Type": "application/json"} | given
    elif data is not None:
        data = _content(data)
    with configuration_errors(), service_errors(), EZThrottle.from_app(context.obj.app) as client:
        answer = client.submit_job(
            url,
            method or ("GET" if data is None else "POST"),
            given,
            data,
            metadata=_parsed("--metadata", metadata) if metadata else None,
            webhooks=[{"url": webhook} for webhook in webhooks],
            regions=regions,
            idempotent_key=key,
        )
    click.echo(json.dumps(answer))


def _headers(given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in given:
        for line in _content(text).splitlines() if text.startswith("@") else [text]:
            name, colon, value = line.partition(":")
            if line.strip() and not colon:
                raise click.BadParameter("a header must be 'NAME: VALUE'.", param_hint="--header")
            if colon:
                found[name.strip()] = value.strip()
    return found


def _content(text: str) -> str:
    if not text.startswith("@"):
        return text
    try:
        return sys.stdin.read() if text == "@-" else Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise click.UsageError(f"{text[1:]} cannot be read as text: {type(exc).__name__}.") from exc


def _parsed(option: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise click.BadParameter("it is not JSON.", param_hint=option) from None
