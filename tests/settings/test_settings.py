"""Settings: where they come from, what they may be, and what keeps a worker or a receiver from starting."""

from __future__ import annotations

import datetime
import math
import re
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import pytest
from celery import Celery

from celery_ezthrottle.errors import ConfigurationError
from celery_ezthrottle.settings import dialects
from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.settings.l8_keys import new_private_key
from celery_ezthrottle.settings.limit import Limit
from celery_ezthrottle.settings.load import load_settings
from celery_ezthrottle.settings.validate import receiver_problems, validate

SECRET = "a secret of sixteen or more"
COMPLETE = Settings(
    api_key="ck_live_1",
    webhook_url="https://app.example.com/ez/hook",
    webhook_secret=SECRET,
    store="redis://127.0.0.1:1/0",
    key_prefix="{ezthrottle:shop}:",
)


@contextmanager
def an_app(main: str | None = "shop", **kwargs: Any) -> Iterator[Celery]:
    app = Celery(main, set_as_current=False, **kwargs)
    try:
        yield app
    finally:
        app.close()


@pytest.fixture
def app() -> Iterator[Celery]:
    with an_app() as made:
        yield made


def read(app: Celery, **environ: str) -> Settings:
    return load_settings(app, environ={f"EZTHROTTLE_{name.upper()}": value for name, value in environ.items()})


def test_defaults_hold_where_nothing_is_set(app: Celery) -> None:
    assert read(app) == Settings(key_prefix="{ezthrottle:shop}:", user_id="shop", route="workers")


@pytest.mark.parametrize("given", ["api_key", "webhook_url", "webhook_secret", "url"])
def test_where_something_of_a_service_is_set_the_route_is_the_service(app: Celery, given: str) -> None:
    assert read(app, **{given: "http://given"}).route == "service"
    assert read(app, **{given: "http://given"}, route="workers").route == "workers"


def test_who_owns_the_jobs_when_nobody_says() -> None:
    with an_app(main=None) as app:
        assert read(app).user_id == "celery"


@pytest.mark.parametrize(("given", "forwards"), [({}, 10), ({"max_forwards": "1"}, 1), ({"max_forwards": "3"}, 3)])
def test_where_the_service_does_not_try_again_a_call_is_forwarded_more_often(
    app: Celery, given: dict[str, str], forwards: int
) -> None:
    assert read(app, dialect="local", **given).max_forwards == forwards
    assert read(app).max_forwards == 1


def test_the_environment_comes_before_the_default(app: Celery) -> None:
    assert read(app, dialect="direct", result_timeout="60").dialect == "direct"
    assert read(app, result_timeout="60").result_timeout == 60.0


def test_app_conf_comes_before_the_environment(app: Celery) -> None:
    app.conf.ezthrottle_api_key = "from conf"
    assert read(app, api_key="from env", url="http://env").api_key == "from conf"
    assert read(app, api_key="from env", url="http://env").url == "http://env"


def test_a_false_value_in_app_conf_counts_as_set(app: Celery) -> None:
    app.conf.ezthrottle_forward_on_retry = False
    app.conf.ezthrottle_regions = []
    settings = read(app, forward_on_retry="true", regions="iad")
    assert settings.forward_on_retry is False
    assert settings.regions == ()


def test_none_in_app_conf_counts_as_not_set(app: Celery) -> None:
    app.conf.ezthrottle_api_key = None
    assert read(app, api_key="from env").api_key == "from env"


def test_none_is_a_value_where_it_means_something(app: Celery) -> None:
    assert read(app).sdk_wait == 2.0
    assert read(app, sdk_wait="None").sdk_wait == math.inf
    app.conf.ezthrottle_sdk_wait = None
    assert read(app).sdk_wait == math.inf
    assert read(app, sdk_wait="3").sdk_wait == 3.0


def test_without_an_environ_the_one_of_the_process_is_read(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EZTHROTTLE_API_KEY", "from os.environ")
    assert load_settings(app).api_key == "from os.environ"


@pytest.mark.parametrize("namespace", ["CELERY", "PROJ"])
def test_a_settings_object_with_a_namespace_is_read_as_django_projects_have_it(app: Celery, namespace: str) -> None:
    django = types.SimpleNamespace(
        **{
            f"{namespace}_EZTHROTTLE_API_KEY": "from settings.py",
            f"{namespace}_EZTHROTTLE_REGIONS": ["iad", "lax"],
            f"{namespace}_RESULT_BACKEND": "redis://backend/1",
            "EZTHROTTLE_URL": "http://outside-the-namespace",
        }
    )
    app.config_from_object(django, namespace=namespace)
    settings = read(app, api_key="from env", result_timeout="60")
    assert settings.api_key == "from settings.py"
    assert settings.regions == ("iad", "lax")
    assert settings.store == "redis://backend/1"
    assert settings.result_timeout == 60.0
    assert settings.url == Settings().url


def test_conf_set_on_top_of_a_namespace_comes_first(app: Celery) -> None:
    app.config_from_object(types.SimpleNamespace(CELERY_EZTHROTTLE_API_KEY="object"), namespace="CELERY")
    app.conf.update(ezthrottle_api_key="updated")
    app.conf.ezthrottle_url = "http://assigned"
    assert (read(app).api_key, read(app).url) == ("updated", "http://assigned")


def test_an_object_without_a_namespace_is_read(app: Celery) -> None:
    app.config_from_object({"ezthrottle_api_key": "plain", "ezthrottle_forward_on": {429}})
    assert (read(app).api_key, read(app).forward_on) == ("plain", {429})


def test_a_lazily_configured_app_is_read_when_it_is_configured(app: Celery) -> None:
    @app.on_configure.connect
    def configure(sender: Celery, **_: Any) -> None:
        sender.conf.ezthrottle_api_key = "configured late"

    assert read(app).api_key == "configured late"


def test_add_defaults_is_read(app: Celery) -> None:
    app.add_defaults(lambda: {"ezthrottle_api_key": "a default"})
    assert read(app, api_key="from env").api_key == "a default"


@pytest.mark.parametrize("name", ["forward_hosts", "forward_signed_hosts", "regions"])
def test_lists_are_comma_separated_in_the_environment(app: Celery, name: str) -> None:
    assert getattr(read(app, **{name: " a, b,,c "}), name) == ("a", "b", "c")


@pytest.mark.parametrize("name", ["forward_hosts", "result_timeout", "exhaust_retries", "store_options", "url"])
def test_an_empty_variable_is_one_that_is_not_set(app: Celery, name: str) -> None:
    assert read(app, **{name: ""}) == read(app)


def test_statuses_are_comma_separated_in_the_environment(app: Celery) -> None:
    assert read(app, forward_on=" 429, 503,").forward_on == {429, 503}


def test_a_header_in_the_environment_may_be_one_name_for_all_hosts(app: Celery) -> None:
    assert read(app, idempotency_header="Idempotency-Key").idempotency_header == "Idempotency-Key"


@pytest.mark.parametrize("value", [["a", "b"], ("a", "b"), "a,b"])
def test_lists_in_app_conf_may_be_any_of_these(app: Celery, value: Any) -> None:
    app.conf.ezthrottle_regions = value
    assert read(app).regions == ("a", "b")


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        ("1", True),
        ("true", True),
        (" YES ", True),
        ("on", True),
        ("0", False),
        ("False", False),
        ("no", False),
        ("off", False),
    ],
)
def test_flags_in_the_environment(app: Celery, text: str, flag: bool) -> None:
    assert read(app, exhaust_retries=text).exhaust_retries is flag


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("api_key", 5, "a string"),
        ("webhook_url", b"http://x", "a string"),
        ("webhook_tolerance", "soon", "a number of seconds above 0"),
        ("webhook_tolerance", True, "a number of seconds above 0"),
        ("result_timeout", 0, "a number of seconds above 0"),
        ("result_timeout", "-1", "a number of seconds above 0"),
        ("result_timeout", "inf", "a number of seconds above 0"),
        ("result_timeout", "nan", "a number of seconds above 0"),
        ("submit_timeout", [60], "a number of seconds above 0"),
        ("max_response", "1 MiB", "a whole number of bytes above 0"),
        ("max_response", 1.5, "a whole number of bytes above 0"),
        ("max_journal", 0, "a whole number of bytes above 0"),
        ("max_request_body", True, "a whole number of bytes above 0"),
        ("webhook_quorum", "0", "a whole number above 0"),
        ("webhook_quorum", -1, "a whole number above 0"),
        ("forward_on", 429, "a collection of HTTP error statuses, 400 to 599, such as {429, 503}"),
        ("regions", 7, "a list of strings"),
        ("store_options", 7, "a mapping (in the environment, a JSON object)"),
        ("store_options", "ssl=true", "a mapping (in the environment, a JSON object)"),
        ("store_options", "[]", "a mapping (in the environment, a JSON object)"),
        ("forward_on_retry", "perhaps", "True or False"),
        ("send_unmatched", 2, "True or False"),
    ],
)
def test_a_wrong_type_is_named_by_its_setting(app: Celery, name: str, value: Any, what: str) -> None:
    setattr(app.conf, f"ezthrottle_{name}", value)
    with pytest.raises(ConfigurationError) as caught:
        read(app)
    assert str(caught.value) == f"ezthrottle_{name} must be {what}."


def test_a_wrong_type_in_the_environment_is_named_by_its_variable_and_not_shown(app: Celery) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(app, result_timeout="s3cr3t")
    assert str(caught.value) == "EZTHROTTLE_RESULT_TIMEOUT must be a number of seconds above 0."


def test_all_wrong_types_come_in_one_error(app: Celery) -> None:
    app.conf.ezthrottle_api_key = 5
    with pytest.raises(ConfigurationError) as caught:
        read(app, max_response="big", regions="fine", send_unmatched="perhaps")
    lines = str(caught.value).splitlines()
    assert lines[0] == "3 settings need attention:"
    assert [line.split()[1] for line in lines[1:]] == [
        "ezthrottle_api_key",
        "EZTHROTTLE_MAX_RESPONSE",
        "EZTHROTTLE_SEND_UNMATCHED",
    ]


def test_secrets_stay_out_of_repr() -> None:
    settings = Settings(
        api_key="s3cr3t-1",
        webhook_secret="s3cr3t-2",
        webhook_secret_secondary="s3cr3t-3",
        store="redis://:s3cr3t-4@h",
        store_options={"password": "s3cr3t-5"},
    )
    assert "s3cr3t" not in repr(settings)
    assert "webhook_tolerance" in repr(settings)


@pytest.mark.parametrize(
    ("broker", "backend", "store"),
    [
        ("redis://broker/0", "redis://backend/1", "redis://backend/1"),
        ("redis://broker/0", None, "redis://broker/0"),
        ("redis://broker/0", "db+sqlite://", "redis://broker/0"),
        ("amqp://broker", "rediss://backend/1", "rediss://backend/1"),
        ("redis+socket:///run/redis.sock", None, "redis+socket:///run/redis.sock"),
        ("amqp://broker", "rpc://", ""),
        ("redis://one;redis://two", None, ""),
        (["redis://one", "redis://two"], None, ""),
        (["redis://one"], None, "redis://one"),
        ("amqp://broker", "redis", "redis://"),
        ("redis://broker/0", "rediss", "redis://"),
        ("redis://broker/0", "sentinel://a:1;sentinel://b:2/3", "sentinel://a:1;sentinel://b:2/3"),
        (["sentinel://a:1", "sentinel://b:2"], "rpc://", "sentinel://a:1;sentinel://b:2"),
        ("sentinel://a:1;redis://b", None, ""),
        ("redis://broker/0", "sentinel", "redis://broker/0"),
        (None, None, ""),
    ],
)
def test_the_store_is_the_result_backend_or_the_broker_if_that_is_one_redis(
    broker: Any, backend: str | None, store: str
) -> None:
    with an_app(broker=broker, backend=backend) as app:
        assert read(app).store == store


def test_a_store_that_is_set_comes_first() -> None:
    with an_app(broker="redis://broker/0", backend="redis://backend/1") as app:
        assert read(app, store="redis://env/2").store == "redis://env/2"
        app.conf.ezthrottle_store = "unix:///run/valkey.sock"
        assert read(app, store="redis://env/2").store == "unix:///run/valkey.sock"


TLS = {"ssl_cert_reqs": "required", "ssl_ca_certs": "/ca.pem"}


@pytest.mark.parametrize(
    ("backend", "conf", "options"),
    [
        ("redis://backend", {}, {}),
        (
            "redis",
            {"redis_host": "h", "redis_port": 1, "redis_db": 2, "redis_username": "u", "redis_password": "p"},
            {"host": "h", "port": 1, "db": 2, "username": "u", "password": "p"},
        ),
        ("redis://backend", {"redis_db": 2, "redis_password": "p"}, {"password": "p"}),
        ("rediss://backend", {"redis_backend_use_ssl": TLS, "broker_use_ssl": {"ssl_keyfile": "other"}}, TLS),
        ("redis://backend", {"redis_backend_credential_provider": "m:C"}, {"credential_provider": "m:C"}),
        (
            "redis://backend",
            {
                "redis_socket_timeout": "7",
                "redis_socket_connect_timeout": 8,
                "redis_backend_health_check_interval": 9,
                "redis_retry_on_timeout": True,  # a store's acts are not repeated unasked
            },
            {"socket_timeout": 7.0, "socket_connect_timeout": 8.0, "health_check_interval": 9},
        ),
        (
            "sentinel://backend",
            {
                "result_backend_transport_options": {"master_name": "m", "sentinel_kwargs": {"password": "s"}, "x": 1},
                "broker_transport_options": {"master_name": "other"},
                "redis_password": "p",
            },
            {"master_name": "m", "sentinel_kwargs": {"password": "s"}, "password": "p"},
        ),
        ("redis://backend", {"result_backend_transport_options": {"master_name": "m"}}, {}),
    ],
)
def test_a_store_that_is_the_result_backend_is_connected_to_in_the_same_way(
    backend: str, conf: dict[str, Any], options: dict[str, Any]
) -> None:
    with an_app(broker="redis://broker", backend=backend) as app:
        app.conf.update(conf)
        assert read(app).store_options == options


@pytest.mark.parametrize(
    ("broker", "conf", "options"),
    [
        ("redis://broker", {"redis_password": "other", "redis_backend_use_ssl": TLS}, {}),
        ("redis://broker", {"broker_user": "u", "broker_password": "p"}, {"username": "u", "password": "p"}),
        ("rediss://broker", {"broker_use_ssl": TLS}, TLS),
        ("rediss://broker", {"broker_use_ssl": True}, {}),
        (
            "redis://broker",
            {"broker_transport_options": {"socket_timeout": 7, "health_check_interval": 9, "visibility_timeout": 1}},
            {"socket_timeout": 7, "health_check_interval": 9},
        ),
        (
            "sentinel://a;sentinel://b",
            {
                "broker_transport_options": {
                    "master_name": "m",
                    "min_other_sentinels": 1,
                    "sentinel_kwargs": {"ssl": True},
                }
            },
            {"master_name": "m", "min_other_sentinels": 1, "sentinel_kwargs": {"ssl": True}},
        ),
    ],
)
def test_a_store_that_is_the_broker_is_connected_to_in_the_same_way(
    broker: str, conf: dict[str, Any], options: dict[str, Any]
) -> None:
    with an_app(broker=broker, backend="rpc://") as app:
        app.conf.update(conf)
        assert read(app).store_options == options


def test_celerys_options_are_read_under_a_namespace(app: Celery) -> None:
    settings = types.SimpleNamespace(CELERY_RESULT_BACKEND="redis://backend", CELERY_REDIS_BACKEND_USE_SSL=TLS)
    app.config_from_object(settings, namespace="CELERY")
    assert read(app).store_options == TLS


def test_store_options_add_to_celerys_where_the_store_is_celerys_and_stand_alone_elsewhere() -> None:
    with an_app(backend="redis://backend", broker="amqp://broker") as app:
        app.conf.update(redis_password="p", redis_backend_use_ssl=TLS)
        assert read(app, store_options='{"ssl_ca_certs": "/mine.pem"}').store_options == {
            "password": "p",
            "ssl_cert_reqs": "required",
            "ssl_ca_certs": "/mine.pem",
        }
        app.conf.ezthrottle_store = "redis://elsewhere"
        assert read(app).store_options == {}
        app.conf.ezthrottle_store_options = {"username": "u"}
        assert read(app, store_options='{"password": "env"}').store_options == {"username": "u"}


@pytest.mark.parametrize(("main", "prefix"), [("shop", "{ezthrottle:shop}:"), (None, "{ezthrottle}:")])
def test_the_prefix_holds_the_name_of_the_app_as_one_hash_tag(main: str | None, prefix: str) -> None:
    with an_app(main) as app:
        assert read(app).key_prefix == prefix
        assert read(app, key_prefix="mine:").key_prefix == "mine:"


def test_every_setting_can_come_from_both_places(app: Celery) -> None:
    numbers = {"webhook_tolerance", "result_timeout", "submit_timeout", "sweep_interval", "lease", "sdk_wait"}
    numbers |= {"priority", "limit_wait", "max_wait", "limit_margin", "limit_lease"}
    sizes = {"max_request_body", "max_response", "max_journal", "webhook_quorum"}
    sizes |= {"max_suspended", "max_unclaimed", "max_unclaimed_bytes", "max_forwards", "max_attempts"}
    flags = {"forward_on_retry", "exhaust_retries", "send_unmatched", "limits_required", "deduplicate"}
    mappings = {"store_options", "retry_policy", "metadata"}
    lists = {"forward_hosts", "forward_signed_hosts", "regions"}
    particular: dict[str, tuple[str, Any]] = {
        "forward_on": ("429", {429}),
        "forward_unsafe_on": ("429,503", {429, 503}),
        "idempotency_header": ('{"public": "Idempotency-Key"}', {"public": "Idempotency-Key"}),
        "limits": ("*=7/s", {"*": Limit("7/s")}),
        "submit": ("first", "first"),
        "route": ("service", "service"),
        "on_limit": ("raise", "raise"),
        "forward_on_network_error": ("never", "never"),
        "keep_answers": ("retries", "retries"),
        "region_policy": ("strict", "strict"),
        "execution_mode": ("race", "race"),
        "idempotency": ("order-{order_id}", "order-{order_id}"),
        "webhooks": ('[{"url": "https://h/x"}]', ({"url": "https://h/x"},)),
    }
    callables = {"forward_if", "is_limited"}  # which no text can be
    for spec in fields(Settings):
        if spec.name in callables:
            continue
        value, expected = next(
            found
            for names, found in (
                (numbers, ("7", 7.0)),
                (sizes, ("7", 7)),
                (flags, ("yes", True)),
                (lists, ("7", ("7",))),
                (mappings, ('{"seven": 7}', {"seven": 7})),
                ({spec.name}, particular.get(spec.name, ("7", "7"))),
            )
            if spec.name in names
        )
        assert getattr(read(app, **{spec.name: value}), spec.name) == expected, spec.name
        setattr(app.conf, f"ezthrottle_{spec.name}", value)
        assert getattr(read(app), spec.name) == expected, spec.name


# Names


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("EZTHROTTLE_WEBHOK_URL", "EZTHROTTLE_WEBHOOK_URL"),
        ("EZTHROTTLE_APIKEY", "EZTHROTTLE_API_KEY"),
        ("EZTHROTTLE_FORWARD_HOST", "EZTHROTTLE_FORWARD_HOSTS"),
        ("EZTHROTTLE_IDEMPOTENCY_HEADERS", "EZTHROTTLE_IDEMPOTENCY_HEADER"),
    ],
)
def test_a_misspelt_variable_is_an_error_that_names_the_right_one(app: Celery, variable: str, meant: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(app, environ={variable: "s3cr3t"})
    assert str(caught.value) == f"The environment variable {variable} is no setting: did you mean {meant}?"


@pytest.mark.parametrize(
    "variable",
    [
        *(f"EZTHROTTLE_{spec.name.upper()}" for spec in fields(Settings) if spec.metadata["kind"].what == "a string"),
        # Of the project, or of somebody else.
        "EZTHROTTLE_TEST_COLOUR",
        "EZTHROTTLE_ENABLED",
        "EZTHROTTLED_APIKEY",
        # Kubernetes sets these in each pod, for services with such names.
        "EZTHROTTLE_PORT",
        "EZTHROTTLE_SERVICE_HOST",
        "EZTHROTTLE_SERVICE_PORT",
        "EZTHROTTLE_PORT_8086_TCP_ADDR",
        "EZTHROTTLE_GATEWAY_PORT",
        "EZTHROTTLE_GATEWAY_SERVICE_HOST",
        "EZTHROTTLE_WEBHOOK_PORT",
        "EZTHROTTLE_WEBHOOK_SERVICE_HOST",
        "EZTHROTTLE_RECEIVER_PORT_8085_TCP",
        "EZTHROTTLE_STORE_PORT",
        "EZTHROTTLE_STORE_SERVICE_HOST",
    ],
)
def test_a_variable_of_others_is_none(app: Celery, variable: str) -> None:
    load_settings(app, environ={variable: "redis://h" if variable.endswith("_STORE") else "7"})


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ezthrottle_apikey", "ezthrottle_apikey is no setting: did you mean ezthrottle_api_key?"),
        ("ezthrottle_colour", "ezthrottle_colour is no setting."),
        ("EZTHROTTLE_APIKEY", "EZTHROTTLE_APIKEY is no setting: did you mean EZTHROTTLE_API_KEY?"),
    ],
)
def test_a_misspelt_name_in_the_configuration_is_an_error(app: Celery, name: str, said: str) -> None:
    setattr(app.conf, name, "s3cr3t")
    with pytest.raises(ConfigurationError) as caught:
        read(app)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("CELERY_EZTHROTTLE_REGION", "CELERY_EZTHROTTLE_REGION is no setting: did you mean CELERY_EZTHROTTLE_REGIONS?"),
        ("CELERY_EZTHROTTLE_COLOUR", "CELERY_EZTHROTTLE_COLOUR is no setting."),
        ("EZTHROTTLE_API_KY", "EZTHROTTLE_API_KY is no setting: did you mean EZTHROTTLE_API_KEY?"),
        ("EZTHROTTLE_ENABLED", None),  # the project's own
        ("CELERY_EZTHROTTLE_REGIONS", None),
    ],
)
def test_a_misspelt_name_in_djangos_settings_is_an_error(app: Celery, name: str, said: str | None) -> None:
    app.config_from_object(types.SimpleNamespace(**{name: ["iad"], "SECRET_KEY": "s3cr3t"}), namespace="CELERY")
    if said is None:
        read(app)
    else:
        with pytest.raises(ConfigurationError) as caught:
            read(app)
        assert str(caught.value) == said


def test_each_misspelt_name_is_told_together_with_what_else_is_wrong(app: Celery) -> None:
    app.conf.ezthrottle_colour = "green"
    with pytest.raises(ConfigurationError) as caught:
        read(app, webhok_url="http://x", result_timeout="soon")
    assert str(caught.value).splitlines()[0] == "3 settings need attention:"


def test_complete_settings_are_fine(app: Celery) -> None:
    validate(COMPLETE, app)
    assert receiver_problems(COMPLETE) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"api_key": ""}, ["ezthrottle_api_key is not set", "EZTHROTTLE_API_KEY"]),
        ({"url": "ezthrottle.fly.dev"}, ["ezthrottle_url is not an http"]),
        ({"tracktags_url": "ftp://x"}, ["ezthrottle_tracktags_url is not an http"]),
        ({"tracktags_url": "http://"}, ["ezthrottle_tracktags_url is not an http"]),
        ({"dialect": "smoke"}, ["ezthrottle_dialect is 'smoke'", "proxy"]),
        ({"webhook_url": ""}, ["ezthrottle_webhook_url is not set", "EZTHROTTLE_WEBHOOK_URL"]),
        ({"webhook_url": "/hook"}, ["ezthrottle_webhook_url is not an http"]),
        ({"webhook_url": "https://h/hook#f"}, ["ezthrottle_webhook_url has a fragment", "remove it"]),
        ({"webhook_secret": ""}, ["ezthrottle_webhook_secret is not set", "EZTHROTTLE_WEBHOOK_SECRET"]),
        ({"webhook_secret": "only fifteen ch"}, ["ezthrottle_webhook_secret is shorter than 16", "longer"]),
        ({"webhook_secret_secondary": "short"}, ["ezthrottle_webhook_secret_secondary is shorter than 16"]),
        ({"store": ""}, ["ezthrottle_store is not set", "EZTHROTTLE_STORE"]),
        ({"store": "amqp://broker"}, ["ezthrottle_store is not a redis://"]),
        (
            {"store": "sentinel://a;sentinel://b"},
            ["name of its master is not set", "?master_name=NAME", "transport options"],
        ),
        ({"submit_timeout": 61.0, "result_timeout": 60.0}, ["ezthrottle_submit_timeout is above", "lower the first"]),
        (
            {"result_timeout": 24 * 3600.0},
            ["ezthrottle_result_timeout (86400 s) is not below result_expires (86400 s)"],
        ),
    ],
)
def test_what_is_missing_or_contradicts_is_one_error_with_the_remedy(
    app: Celery, changed: dict[str, Any], said: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        validate(replace(COMPLETE, **changed), app)
    assert "\n" not in str(caught.value)
    for part in said:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("expires", "fine"),
    [
        (datetime.timedelta(hours=12), False),
        (datetime.timedelta(hours=12, seconds=1), True),
        (12 * 3600, False),
        (12 * 3600 + 1, True),
        (0, True),
        (None, True),
    ],
)
def test_a_task_must_not_wait_longer_than_results_are_kept(app: Celery, expires: Any, fine: bool) -> None:
    app.conf.result_expires = expires
    if fine:
        validate(COMPLETE, app)
    else:
        with pytest.raises(ConfigurationError, match="result_expires"):
            validate(COMPLETE, app)


def test_submitting_may_be_tried_as_long_as_the_task_waits(app: Celery) -> None:
    validate(replace(COMPLETE, submit_timeout=COMPLETE.result_timeout), app)


@pytest.mark.parametrize(
    "changed",
    [
        {"store": "sentinel://a;sentinel://b/0?master_name=m"},
        {"store": "sentinel://a", "store_options": {"master_name": "m"}},
        {"store": "redis+socket:///run/redis.sock"},
        {"store": "unix:///run/redis.sock"},
        {"store": "rediss://h"},
    ],
)
def test_these_are_stores(app: Celery, changed: dict[str, Any]) -> None:
    validate(replace(COMPLETE, **changed), app)


def test_one_error_names_all_that_is_missing(app: Celery) -> None:
    with pytest.raises(ConfigurationError) as caught:
        validate(Settings(submit_timeout=2.0, result_timeout=1.0), app)
    lines = str(caught.value).splitlines()
    assert lines[0] == "5 settings need attention:"
    named = ("store", "webhook_url", "webhook_secret", "api_key", "submit_timeout")
    assert [line.split()[1] for line in lines[1:]] == [f"ezthrottle_{name}" for name in named]


def test_no_error_shows_a_secret(app: Celery) -> None:
    with pytest.raises(ConfigurationError) as caught:
        validate(replace(COMPLETE, webhook_secret="s3cr3t", store="s3cr3t://:s3cr3t@h", url="http:s3cr3t"), app)
    assert str(caught.value).startswith("3 settings")
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "service", "proxy"),
    [
        ({}, "https://ezthrottle.fly.dev", "https://tracktags.fly.dev"),
        ({"dialect": "direct"}, "https://api.trackttags.com", ""),
        ({"dialect": "direct", "url": "https://h"}, "https://h", ""),
        ({"dialect": "smoke"}, "", ""),
    ],
)
def test_the_dialect_says_which_urls_are_called(changed: dict[str, Any], service: str, proxy: str) -> None:
    settings = replace(COMPLETE, **changed)
    assert (settings.service_url, settings.proxy_url) == (service, proxy)


def test_a_dialect_may_need_a_url_and_no_key(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(dialects.DIALECTS, "own", dialects.Needs("", api_key=False))
    validate(replace(COMPLETE, dialect="own", url="http://127.0.0.1:4000", api_key=""), app)
    with pytest.raises(ConfigurationError, match="ezthrottle_url is not set: the dialect 'own' has no default"):
        validate(replace(COMPLETE, dialect="own", api_key=""), app)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"url": ""}, "ezthrottle_url is not set: the dialect 'local' has no default"),
        ({"webhook_secret": ""}, "ezthrottle_webhook_secret is not set: it makes the tokens in the URLs of webhooks"),
        ({"l8_private_key": "AAAA"}, "ezthrottle_l8_private_key is not a key of 32 bytes in base64: make one with"),
        ({"l8_sender_key": new_private_key()}, "ezthrottle_l8_sender_key is set without ezthrottle_l8_private_key"),
    ],
)
def test_what_a_server_of_ones_own_needs(app: Celery, changed: dict[str, Any], said: str) -> None:
    local = replace(COMPLETE, dialect="local", url="http://127.0.0.1:4000", api_key="")
    validate(local, app)
    validate(replace(local, l8_private_key=new_private_key(), l8_sender_key=new_private_key()), app)
    with pytest.raises(ConfigurationError, match=f"^{re.escape(said)}"):
        validate(replace(local, **changed), app)


def test_a_receiver_needs_no_api_key() -> None:
    assert receiver_problems(replace(COMPLETE, api_key="")) == []


def test_the_secrets_are_the_primary_and_then_the_secondary_one() -> None:
    assert COMPLETE.webhook_secrets == (SECRET,)
    assert replace(COMPLETE, webhook_secret_secondary="other").webhook_secrets == (SECRET, "other")
    assert Settings().webhook_secrets == ()


@pytest.mark.parametrize(
    ("url", "path"), [("https://h/ez/hook", "/ez/hook"), ("https://h", "/"), ("https://h/x/?tenant=1", "/x/")]
)
def test_the_receiver_serves_the_path_of_its_url(url: str, path: str) -> None:
    assert replace(COMPLETE, webhook_url=url).webhook_path == path
