"""``celery -A proj ezthrottle region``."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit

import click
import requests

from celery_ezthrottle.settings.load import load_settings

from .errors import configuration_errors

__all__ = ["region"]

TIMEOUT = 10.0  # seconds


def _base_url(_context: click.Context, _parameter: Any, value: str) -> str:
    try:
        parts = urlsplit(value)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        is_url = False
    if not is_url:
        raise click.BadParameter(f"{value!r} is not the URL of a gateway, such as http://127.0.0.1:8086.")
    return value.rstrip("/")


@click.command()
@click.argument("action", type=click.Choice(["down", "up", "list"]))
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--gateway",
    "url",
    default="http://127.0.0.1:8086",
    show_default=True,
    callback=_base_url,
    metavar="URL",
    help="The gateway.",
)
@click.option("--api-key", help="The API key of the gateway.  [default: ezthrottle_api_key]")
@click.pass_context
def region(context: click.Context, action: str, names: tuple[str, ...], url: str, api_key: str | None) -> None:
    """Put regions of a gateway down or up, or list them. A region stays down when the gateway is started again."""
    if (action == "list") == bool(names):
        raise click.UsageError("Name the regions to put down or up; list takes no name.")
    with configuration_errors():
        key = load_settings(context.obj.app).api_key if api_key is None else api_key
    for each in _ask("GET", f"{url}/api/v1/regions", key)["regions"] if action == "list" else ():
        click.echo(f"{each['name']}: {each['status']}")
    for name in names:
        each = _ask("PUT", f"{url}/api/v1/regions/{quote(name, safe='')}", key, status=action)
        click.echo(f"{each['name']}: {each['status']}")


def _ask(method: str, url: str, key: str, **data: str) -> Any:
    host = urlsplit(url).netloc
    with requests.Session() as session:
        session.trust_env = False
        try:
            answer = session.request(
                method, url, headers={"X-API-Key": key}, json=data or None, timeout=TIMEOUT, allow_redirects=False
            )
            content = answer.json()
        except requests.JSONDecodeError:
            raise click.ClickException(f"What answers at {host} is no gateway: check --gateway.") from None
        except requests.RequestException as exc:
            raise click.ClickException(
                f"The gateway at {host} gave no answer ({type(exc).__name__}): check --gateway."
            ) from None
        except (UnicodeError, ValueError):
            raise click.ClickException("The API key holds a character that no HTTP header can carry.") from None
    if answer.status_code != 200:
        said = content.get("error") if isinstance(content, dict) else None
        raise click.ClickException(f"The gateway at {host} refused that (HTTP {answer.status_code}): {said}")
    return content
