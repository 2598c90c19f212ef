"""The package without any extra: the core imports, and what needs an extra names it. Run by tox -e no-extras."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil

import pytest
from celery import Celery
from click.testing import CliRunner

import celery_ezthrottle
from celery_ezthrottle.cli import ezthrottle
from celery_ezthrottle.errors import ConfigurationError
from celery_ezthrottle.receiver.asgi import create_app
from celery_ezthrottle.settings.l8_keys import new_private_key

EXTRAS = ("cryptography", "httpx2", "starlette", "uvicorn")
NEEDS_AN_EXTRA = {
    "celery_ezthrottle._common.http_protocol",
    "celery_ezthrottle.receiver.l8",
    "celery_ezthrottle.service.l8",
    *(
        f"celery_ezthrottle.gateway.{name}"
        for name in ("api", "app", "attempts", "delivery", "dispatcher", "exchange", "webhook_secrets")
    ),
}

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) for name in EXTRAS), reason="an extra is installed; tox -e no-extras runs this"
)


def test_every_module_of_the_core_imports() -> None:
    names = [module.name for module in pkgutil.walk_packages(celery_ezthrottle.__path__, "celery_ezthrottle.")]
    assert len(names) > 20
    for name in names:
        if name not in NEEDS_AN_EXTRA:
            importlib.import_module(name)


@pytest.mark.parametrize(("command", "extra"), [("webhook", "server"), ("gateway", "gateway")])
def test_a_command_names_the_extra_it_needs(command: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EZTHROTTLE_API_KEY", "key")
    monkeypatch.setenv("EZTHROTTLE_WEBHOOK_SECRET", "secret-of-this-test")

    class Context:
        app = Celery("bare")

    done = CliRunner().invoke(ezthrottle, [command], obj=Context)

    assert done.exit_code == 2
    assert f"install celery-ezthrottle[{extra}]" in done.output


def test_l8_names_the_extra_it_needs() -> None:
    app = Celery("bare", set_as_current=False)
    app.conf.update(
        ezthrottle_dialect="local",
        ezthrottle_url="http://127.0.0.1:4000",
        ezthrottle_webhook_url="http://127.0.0.1:8085/hook",
        ezthrottle_webhook_secret="secret-of-this-test",
        ezthrottle_store="redis://127.0.0.1:1/0",
        ezthrottle_l8_private_key=new_private_key(),
    )
    with pytest.raises(ConfigurationError, match=r"needs cryptography: install celery-ezthrottle\[l8\]"):
        create_app(app)
