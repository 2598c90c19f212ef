"""What is found wrong with settings, frugal tasks, store and clocks: each true, and nothing where nothing is wrong."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import requests
from celery import Celery

from celery_ezthrottle import EZThrottleTask, frugal
from celery_ezthrottle.checks.findings import Finding, Level
from celery_ezthrottle.checks.runtime import of_counts, of_health, warn_at_start
from celery_ezthrottle.checks.setup import SUBMISSION, frugal_tasks, of_settings, of_tasks
from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.http.call import Call
from celery_ezthrottle.http.requests_adapter import REQUESTS
from celery_ezthrottle.policy.decision import Failure, failure_of
from celery_ezthrottle.policy.hosts import may_forward
from celery_ezthrottle.service.dialects.dialect import JOB_FIELDS
from celery_ezthrottle.service.dialects.direct import Direct
from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.settings.l8_keys import new_private_key
from celery_ezthrottle.settings.options import Options
from celery_ezthrottle.store.records import Counts, Health
from celery_ezthrottle.tasks.adopt import adopt
from tests.support.servers import free_port

SECRET = "a secret of sixteen or more"
COMPLETE = Settings(
    api_key="ck_live_1",
    webhook_url="https://app.example.com/ez/hook",
    webhook_secret=SECRET,
    store="redis://127.0.0.1:1/0",
    key_prefix="{ezthrottle:shop}:",
    idempotency_header="Idempotency-Key",
)
NOW = 1_800_000_000.0
HEALTHY = Health(clock=NOW, receiver_clock=0.0)
QUIET = Counts(suspended=0, unclaimed=0, unclaimed_bytes=0, evicted=0, repeated=0, contradicting=0)


@contextmanager
def an_app(main: str | None = "shop", **kwargs: Any) -> Iterator[Celery]:
    app = Celery(main, set_as_current=False, **{"backend": "redis://127.0.0.1:1/0", **kwargs})
    try:
        yield app
    finally:
        app.close()


def body() -> None:
    """Of a task."""


@pytest.fixture
def app() -> Iterator[Celery]:
    """Without the tasks that other modules share with every app."""
    with an_app() as made:
        made.finalize()
        for name in list(made.tasks):
            made.tasks.unregister(name)
        yield made


def the_one(found: Iterable[Finding], level: Level, *said: str) -> None:
    (finding,) = found
    assert finding.level is level
    assert "\n" not in finding.text
    for part in said:
        assert part in finding.text


def settings_of(app: Celery, **changed: Any) -> list[Finding]:
    return list(of_settings(replace(COMPLETE, **changed), app))


def tasks_of(app: Celery, **changed: Any) -> list[Finding]:
    return list(of_tasks(replace(COMPLETE, **changed), frugal_tasks(app), app))


# Settings


def test_nothing_is_wrong_with_complete_settings(app: Celery) -> None:
    assert settings_of(app) == []


def test_each_problem_of_the_settings_is_an_error_of_its_own(app: Celery) -> None:
    found = settings_of(app, api_key="", webhook_secret="short")
    assert [(finding.level, finding.text.split()[0]) for finding in found] == [
        (Level.ERROR, "ezthrottle_webhook_secret"),
        (Level.ERROR, "ezthrottle_api_key"),
    ]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"api_key": ""}, ["ezthrottle_api_key is not set"]),
        ({"api_key": "ck\nlive"}, ["ezthrottle_api_key holds a line break"]),
        ({"api_key": "ck_ł"}, ["ezthrottle_api_key holds", "no HTTP header"]),
        ({"url": "https://user@h/"}, ["ezthrottle_url must be", "without user info"]),
        ({"webhook_url": "https://app.example.com/a hook"}, ["ezthrottle_webhook_url", "hold no blanks"]),
        ({"webhook_url": "https://app.example.com:0/"}, ["ezthrottle_webhook_url", "http:// or https:// URL"]),
    ],
)
def test_what_would_fail_at_the_first_submission_is_an_error_now(
    app: Celery, changed: dict[str, Any], said: list[str]
) -> None:
    the_one(settings_of(app, **changed), Level.ERROR, *said)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"webhook_url": "http://app.example.com/"}, ["ezthrottle_webhook_url is http://", "the answers", "https://"]),
        ({"tracktags_url": "http://h.example.com"}, ["ezthrottle_tracktags_url is http://", "the API key"]),
        ({"url": "http://h.example.com"}, ["ezthrottle_url is http://", "host: the requests", "use https://"]),
        (
            {"url": "http://h.example.com", "dialect": "direct", "tracktags_url": "http://unused.example.com"},
            ["ezthrottle_url is http://", "host: the API key and the requests"],
        ),
        ({"webhook_url": "http://127.0.0.1:8085/x"}, ["names 127.0.0.1", "cannot reach", "public URL"]),
        ({"webhook_url": "https://receiver.internal/x"}, ["names receiver.internal", "ezthrottle.fly.dev"]),
        ({"api_key": " ck_live"}, ["ezthrottle_api_key holds a blank", "remove it"]),
        ({"webhook_secret": f"{SECRET}\n"}, ["ezthrottle_webhook_secret begins or ends with", "remove it"]),
        ({"webhook_secret_secondary": f" {SECRET}"}, ["ezthrottle_webhook_secret_secondary begins or ends with"]),
        ({"webhook_secret_secondary": SECRET}, ["equals ezthrottle_webhook_secret", "being replaced, or remove it"]),
        ({"max_response": 11, "max_journal": 10}, ["(11) is above ezthrottle_max_journal (10)", "lower the first"]),
        ({"lease": SUBMISSION - 1.0}, ["ezthrottle_lease (19 s) is short", "raise it to 20"]),
    ],
)
def test_settings_that_cannot_be_meant_are_a_warning(app: Celery, changed: dict[str, Any], said: list[str]) -> None:
    found = settings_of(app, **changed)
    the_one(found, Level.WARNING, *said)
    assert SECRET not in str(found)


@pytest.mark.parametrize(
    "changed",
    [
        # All on one machine, or in one network: as in development.
        {"webhook_url": "http://127.0.0.1:8085/x", "url": "http://127.0.0.1:1", "tracktags_url": "http://127.0.0.1:1"},
        {"webhook_url": "http://receiver:8085/x", "url": "http://gateway:80", "tracktags_url": "http://gateway:80"},
        {"webhook_secret_secondary": "another secret, just as long"},
        {"max_response": 10, "max_journal": 10},
        {"lease": float(SUBMISSION)},
    ],
)
def test_settings_that_may_be_meant_are_fine(app: Celery, changed: dict[str, Any]) -> None:
    assert settings_of(app, **changed) == []


# Names


class DjangoSettings:
    """A settings module as Django's, read under a namespace."""

    CELERY_RESULT_BACKEND = "redis://127.0.0.1:1/0"
    CELERY_EZTHROTTLE_API_KEY = "ck"
    EZTHROTTLE_WEBHOOK_SECRET = SECRET
    EZTHROTTLE_ENABLED = True  # the project's own
    SECRET_KEY = "s3cr3t"


def test_a_setting_outside_the_namespace_is_not_read_and_named() -> None:
    with an_app(backend=None) as app:
        app.config_from_object(DjangoSettings, namespace="CELERY")
        found = sorted(settings_of(app), key=str)
    assert [finding.text for finding in found] == [
        "EZTHROTTLE_WEBHOOK_SECRET in the app's configuration is not read: name it CELERY_EZTHROTTLE_WEBHOOK_SECRET.",
    ]


def test_an_upper_case_setting_without_a_namespace_is_not_read(app: Celery) -> None:
    app.conf.EZTHROTTLE_API_KEY = "ck"
    the_one(settings_of(app), Level.WARNING, "EZTHROTTLE_API_KEY", "not read: name it ezthrottle_api_key.")


# The app


def test_eager_mode_forwards_nothing(app: Celery) -> None:
    app.conf.task_always_eager = True
    the_one(settings_of(app), Level.WARNING, "task_always_eager is set", "unset it")


@pytest.mark.parametrize(
    ("backend", "level", "said"),
    [
        (None, Level.NOTE, "There is no result backend"),
        ("rpc://", Level.NOTE, "has no chords"),
        ("nonsense://s3cr3t@h", Level.ERROR, "cannot be loaded"),
    ],
)
def test_a_backend_without_chords_is_told(backend: str | None, level: Level, said: str) -> None:
    with an_app(backend=backend) as app:
        found = settings_of(app)
    the_one(found, level, said)
    assert "s3cr3t" not in str(found)


def test_apps_without_a_name_share_their_keys() -> None:
    with an_app(None) as app:
        the_one(settings_of(app, key_prefix="{ezthrottle}:"), Level.NOTE, "no name", "ezthrottle_key_prefix")
        assert settings_of(app, key_prefix="{mine}:") == []


# Tasks


def test_nothing_is_wrong_with_a_plain_frugal_task(app: Celery) -> None:
    @app.task(shared=False)
    @frugal
    def fetch(path: str) -> None: ...

    @app.task(shared=False, base=EZThrottleTask)
    def refund(order_id: int) -> None: ...

    @app.task(shared=False)
    def not_frugal() -> None: ...

    assert [task.name.rpartition(".")[2] for task in frugal_tasks(app)] == ["fetch", "refund"]
    assert tasks_of(app) == []


def test_an_app_without_frugal_tasks_has_probably_not_imported_them(app: Celery) -> None:
    the_one(tasks_of(app), Level.WARNING, "No task is frugal", "include, imports or autodiscover_tasks")


def test_the_same_of_several_tasks_is_one_finding(app: Celery) -> None:
    for name in "edcba":
        app.task(shared=False, name=name)(frugal(body))
    said = "Tasks a, b, c and 2 more: idempotency names 'order_id'"
    the_one(tasks_of(app, idempotency="{order_id}"), Level.ERROR, said)


def test_options_that_contradict_are_an_error_that_names_the_task(app: Celery) -> None:
    @app.task(shared=False, name="charge")
    @frugal(result_timeout=60, submit_timeout=61)
    def charge() -> None: ...

    the_one(tasks_of(app), Level.ERROR, "Task charge: submit_timeout is above result_timeout")


def test_a_key_for_all_tasks_must_fit_each(app: Celery) -> None:
    @app.task(shared=False, name="charge")
    @frugal
    def charge(order_id: int) -> None: ...

    @app.task(shared=False, name="charge.retried", bind=True, autoretry_for=(ConnectionError,))
    @frugal
    def retried(self: Any, order_id: int) -> None: ...

    @app.task(shared=False, name="list", base=EZThrottleTask)
    def list_all() -> None: ...

    @app.task(shared=False, name="own")
    @frugal(idempotency="task")
    def own() -> None: ...

    said = "Task list: idempotency names 'order_id', which is no parameter"
    the_one(tasks_of(app, idempotency="order-{order_id}"), Level.ERROR, said)


def test_a_key_may_name_the_task_itself(app: Celery) -> None:
    @app.task(shared=False, bind=True, autoretry_for=(ConnectionError,))
    @frugal
    def charge(self: Any) -> None: ...

    adopt(app.tasks[charge.name])  # as a worker does
    assert tasks_of(app, idempotency="{self.request.id}") == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retry_policy": {"retries": 3}}, "'retries' is not known here"),
        ({"webhooks": [{"url": "app.example.com"}]}, "webhooks[0].url must be an http"),
        ({"webhook_quorum": 2}, "webhook_quorum is 2 but 1 webhooks have a vote"),
        ({"metadata": {"at": datetime.datetime.now(datetime.UTC)}}, "metadata must be a JSON object"),
    ],
)
def test_options_that_no_job_can_carry_are_an_error(app: Celery, options: dict[str, Any], said: str) -> None:
    app.task(shared=False, name="charge")(frugal(**options)(body))
    the_one(tasks_of(app), Level.ERROR, "Task charge: nothing is ever forwarded: ", said)


def test_what_the_dialect_cannot_express_is_an_error(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Direct, "job_fields", JOB_FIELDS - {"regions", "retry_at"})
    app.task(shared=False, name="charge")(frugal(regions=["iad"])(body))
    app.task(shared=False, name="refund")(frugal(body))
    said = "Task charge: nothing is ever forwarded: The dialect 'direct' (ezthrottle_dialect) cannot express regions"
    the_one(tasks_of(app, dialect="direct"), Level.ERROR, said)
    assert tasks_of(app) == []


LOCAL: dict[str, Any] = {"dialect": "local", "url": "http://127.0.0.1:4000", "api_key": "", "forward_hosts": ("api",)}


@pytest.mark.parametrize(
    ("webhook_url", "level"),
    [("https://app.example.com/hook", Level.WARNING), ("http://127.0.0.1:8085/hook", Level.NOTE)],
)
def test_webhooks_that_nobody_signs(app: Celery, webhook_url: str, level: Level) -> None:
    said = "webhooks are not signed, and only the token in their URL proves them"
    the_one(settings_of(app, **LOCAL, webhook_url=webhook_url), level, said, "l8 keygen")
    key = new_private_key()
    assert settings_of(app, **LOCAL, webhook_url=webhook_url, l8_private_key=key) == []
    the_one(settings_of(app, l8_private_key=key), Level.WARNING, "has no effect with the dialect 'proxy'")


def test_a_server_of_ones_own_gets_no_api_key(app: Celery) -> None:
    found = settings_of(app, **LOCAL | {"url": "http://queue.example.com"}, l8_private_key=new_private_key())
    the_one(found, Level.WARNING, "ezthrottle_url is http:// on a public host: the requests travel unencrypted")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"regions": ["iad"]}, "regions"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"retry_policy": {"max_retries": 1}}, "retry_policy"),
        ({"webhooks": [{"url": "https://h/x"}]}, "2 webhooks"),
    ],
)
def test_what_a_server_of_ones_own_cannot_do(app: Celery, options: dict[str, Any], field: str) -> None:
    said = f"nothing is ever forwarded: The dialect 'local' (ezthrottle_dialect) cannot express {field}"
    app.task(shared=False, name="charge")(frugal(body))
    assert tasks_of(app, **LOCAL) == []
    the_one(tasks_of(app, **LOCAL, **options), Level.ERROR, said)  # as a setting
    app.task(shared=False, name="refund")(frugal(**options)(body))
    the_one(tasks_of(app, **LOCAL), Level.ERROR, f"Task refund: {said}")


def test_settings_that_no_job_can_carry_are_not_the_tasks_fault(app: Celery) -> None:
    app.task(shared=False, name="charge")(frugal(body))
    assert tasks_of(app, webhook_url="", webhook_secret="") == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"forward_on": (), "forward_on_network_error": "never"}, ["nothing is ever forwarded", "forward_on is empty"]),
        ({"forward_hosts": []}, ["nothing is ever forwarded: forward_hosts is empty", '"public"']),
        (
            {"forward_hosts": ["https://api.example.com"]},
            ["forward_hosts holds 'https://api.example.com', which matches"],
        ),
        ({"forward_hosts": ["public", "api.example.com/v1"]}, ["'api.example.com/v1'", "the host alone"]),
        ({"forward_signed_hosts": [" api.example.com"]}, ["forward_signed_hosts holds", "matches no host"]),
        ({"idempotency_header": {"https://api.example.com": "K"}}, ["idempotency_header holds 'https", "host alone"]),
        ({"forward_hosts": ["https://u:s3cr3t@api.example.com"]}, ["forward_hosts holds what matches no host"]),
    ],
)
def test_options_that_forward_nothing_are_a_warning(app: Celery, options: dict[str, Any], said: list[str]) -> None:
    app.task(shared=False, name="charge")(frugal(**options)(body))
    found = tasks_of(app)
    the_one(found, Level.WARNING, "Task charge: ", *said)
    assert "s3cr3t" not in str(found)


@pytest.mark.parametrize(
    "options",
    [
        {"forward_on": ()},
        {"forward_on": (), "forward_on_network_error": "never", "is_limited": lambda response: True},
        {"forward_hosts": ["127.0.0.1:8080", "[::1]:8080", "*.internal", "host_[ab]"]},
        {"webhook_quorum": 2, "webhooks": [{"url": "https://app.example.com/mine"}]},
        {"forward_on": (), "forward_unsafe_on": {429}, "forward_on_network_error": "never"},
        {"idempotency_header": {"api.example.com": "Idempotency-Key", "public": "Key"}},
    ],
)
def test_options_that_forward_something_are_fine(app: Celery, options: dict[str, Any]) -> None:
    app.task(shared=False, name="charge")(frugal(**options)(body))
    assert tasks_of(app) == []


def test_a_misspelt_option_of_a_class_is_a_warning(app: Celery) -> None:
    class Own(EZThrottleTask):
        abstract = True
        region = ("iad",)
        colour = "green"

    app.task(shared=False, name="charge", base=Own, rate_limit="5/s", max_retries=3)(body)
    the_one(tasks_of(app), Level.WARNING, "Task charge: its attribute region is no option: did you mean regions?")


@pytest.mark.parametrize(
    ("options", "noted"),
    [
        ({}, True),
        ({"forward_unsafe_on": {429, 503, 504}}, True),
        ({"forward_unsafe_on": {429, 503}}, False),
        ({"forward_on": {429, 503}}, False),
        ({"idempotency_header": {"api.example.com": "Idempotency-Key"}}, False),
    ],
)
def test_unsafe_calls_that_may_be_executed_twice_are_noted(app: Celery, options: dict[str, Any], noted: bool) -> None:
    app.task(shared=False, name="charge")(frugal(**options)(body))
    found = tasks_of(app, idempotency_header=None)
    if noted:
        the_one(found, Level.NOTE, "Task charge: a POST", "500, 502 and 504", "idempotency_header", "forward_unsafe_on")
    else:
        assert found == []


ON_LOOPBACK = [
    {"tracktags_url": "http://127.0.0.1:8086"},
    {"url": "http://localhost:8086"},
    {"url": "http://[::1]:8086"},
    {"webhook_url": "http://127.0.0.1:8085/ezthrottle/webhook"},
]


@pytest.mark.parametrize("changed", ON_LOOPBACK)
def test_a_trial_on_one_machine_without_forward_hosts_is_a_warning(app: Celery, changed: dict[str, str]) -> None:
    app.task(shared=False, name="charge")(frugal(body))
    app.task(shared=False, name="own")(frugal(forward_hosts=["127.0.0.1"])(body))
    said = [
        "Task charge: ezthrottle_",
        "forward_hosts is not set",
        'ezthrottle_forward_hosts = ["public", "127.0.0.1"]',
    ]
    the_one(tasks_of(app, **changed), Level.WARNING, *said)


@pytest.mark.parametrize("given", [["public"], ["public", "127.0.0.1"]])
def test_hosts_that_were_chosen_are_fine(app: Celery, monkeypatch: pytest.MonkeyPatch, given: list[str]) -> None:
    app.task(shared=False, name="charge")(frugal(body))
    monkeypatch.setenv("EZTHROTTLE_FORWARD_HOSTS", ",".join(given))
    assert tasks_of(app, forward_hosts=tuple(given), **ON_LOOPBACK[0]) == []
    monkeypatch.delenv("EZTHROTTLE_FORWARD_HOSTS")
    app.conf.ezthrottle_forward_hosts = given
    assert tasks_of(app, forward_hosts=tuple(given), **ON_LOOPBACK[0]) == []


def test_a_service_in_the_network_needs_no_hosts(app: Celery) -> None:
    app.task(shared=False, name="charge")(frugal(body))
    assert tasks_of(app, url="http://gateway:8086", tracktags_url="http://10.0.0.7:8086") == []


def test_what_the_warnings_claim_is_true() -> None:
    """The policy itself forwards nothing for the options that are warned about."""
    call = Call(
        library=REQUESTS,
        request=requests.Request("GET", "https://api.example.com/v1").prepare(),
        arguments={},
    )
    call.error = requests.ConnectionError()
    assert failure_of(call, Options()) is Failure.NETWORK
    assert failure_of(call, Options(forward_on=frozenset(), forward_on_network_error="never")) is None
    for pattern in ("https://api.example.com", "api.example.com/v1", " api.example.com", "u@api.example.com"):
        assert not may_forward("https://api.example.com/v1", [pattern])


@pytest.mark.parametrize(
    ("expires", "timeout", "fine"),
    [(86400, 86399, True), (86400, 86400, False), (datetime.timedelta(days=2), 86400, True), (None, 1e6, True)],
)
def test_a_task_must_not_wait_longer_than_results_are_kept(
    app: Celery, expires: Any, timeout: float, fine: bool
) -> None:
    app.conf.result_expires = expires
    app.task(shared=False, name="charge")(frugal(result_timeout=timeout)(body))
    if fine:
        assert tasks_of(app) == []
    else:
        the_one(tasks_of(app), Level.WARNING, "Task charge: result_timeout (86400 s) is not below result_expires")


def test_the_timeout_of_all_tasks_is_said_once(app: Celery) -> None:
    app.task(shared=False, name="charge")(frugal(body))
    assert tasks_of(app, result_timeout=86400.0) == []
    the_one(settings_of(app, result_timeout=86400.0), Level.ERROR, "ezthrottle_result_timeout (86400 s) is not below")


def test_late_acknowledgement_alone_does_not_outlive_a_killed_process(app: Celery) -> None:
    app.task(shared=False, name="late", acks_late=True)(frugal(body))
    app.task(shared=False, name="later", acks_late=True, reject_on_worker_lost=True)(frugal(body))
    the_one(tasks_of(app), Level.NOTE, "Task late: acks_late without reject_on_worker_lost")


def test_an_ignored_result_tells_no_state(app: Celery) -> None:
    app.task(shared=False, name="silent", ignore_result=True)(frugal(body))
    the_one(tasks_of(app), Level.NOTE, "Task silent: ignore_result")


# The store


def test_a_healthy_store_is_fine() -> None:
    assert list(of_health(COMPLETE, HEALTHY, NOW)) == []
    assert list(of_counts(COMPLETE, QUIET)) == []


def test_what_the_store_says_of_itself_is_a_warning() -> None:
    said = ("Redis forgets: mend it.", "Redis is tired: wake it.")
    found = list(of_health(COMPLETE, replace(HEALTHY, problems=said), NOW))
    assert found == [Finding(Level.WARNING, text) for text in said]


@pytest.mark.parametrize("ahead", [150.0, -150.0, 0.0])
def test_a_receiver_within_half_the_tolerance_is_fine(ahead: float) -> None:
    assert list(of_health(COMPLETE, replace(HEALTHY, receiver_clock=ahead), NOW)) == []


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        (151.0, "151 s ahead of the store's: webhooks may be refused"),
        (-151.0, "151 s behind the store's: webhooks may be refused"),
        (301.0, "301 s ahead of the store's: webhooks are refused"),
    ],
)
def test_a_receiver_whose_clock_is_off_is_a_warning(ahead: float, said: str) -> None:
    found = of_health(COMPLETE, replace(HEALTHY, receiver_clock=ahead), NOW)
    the_one(found, Level.WARNING, said, "300 s", "ezthrottle_webhook_tolerance", "NTP")


def test_the_tolerance_is_that_of_the_settings() -> None:
    wide = replace(COMPLETE, webhook_tolerance=1000.0)
    assert list(of_health(wide, replace(HEALTHY, receiver_clock=301.0), NOW)) == []


def test_no_receiver_yet_is_a_note() -> None:
    the_one(of_health(COMPLETE, replace(HEALTHY, receiver_clock=None), NOW), Level.NOTE, "No receiver", "webhook")


@pytest.mark.parametrize(("ahead", "said"), [(31.0, "31 s ahead of"), (-31.0, "31 s behind"), (30.0, ""), (-30.0, "")])
def test_this_machines_clock_may_be_half_a_lease_off(ahead: float, said: str) -> None:
    found = list(of_health(COMPLETE, HEALTHY, NOW + ahead))
    if said:
        the_one(found, Level.WARNING, "This machine's clock", said, "leases (60 s)", "NTP")
    else:
        assert found == []


@pytest.mark.parametrize(("parked", "fine"), [(80, True), (81, False), (100, False)])
def test_a_store_that_is_nearly_full_is_a_warning(parked: int, fine: bool) -> None:
    found = list(of_counts(replace(COMPLETE, max_suspended=100), replace(QUIET, suspended=parked)))
    if fine:
        assert found == []
    else:
        the_one(found, Level.WARNING, f"{parked} of at most 100 tasks", "ezthrottle_max_suspended")


def test_results_that_were_given_up_are_a_warning() -> None:
    found = of_counts(COMPLETE, replace(QUIET, evicted=3))
    the_one(found, Level.WARNING, "3 results were given up", "ezthrottle_max_unclaimed_bytes")


def test_results_that_contradict_are_a_warning_and_repeated_ones_are_not() -> None:
    assert list(of_counts(COMPLETE, replace(QUIET, repeated=3, unclaimed=3))) == []
    found = of_counts(COMPLETE, replace(QUIET, contradicting=2))
    the_one(found, Level.WARNING, "2 webhooks brought another result", "executed twice")


# At the start of a worker


def test_a_store_out_of_reach_is_one_line(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    app.task(shared=False, name="silent", ignore_result=True)(frugal(body))
    settings = replace(COMPLETE, store=f"redis://:s3cr3t@127.0.0.1:{free_port()}/0")
    with caplog.at_level(logging.INFO, "celery_ezthrottle"):
        warn_at_start(Continuations(app, settings), app)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "cannot be reached" in record.message
    assert "s3cr3t" not in caplog.text


def test_a_worker_says_what_is_wrong_and_leaves_notes_to_check(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    app.task(shared=False, name="charge", ignore_result=True)(frugal(forward_hosts=[], webhook_quorum=2)(body))
    settings = replace(COMPLETE, store=f"redis://127.0.0.1:{free_port()}/0")
    with caplog.at_level(logging.INFO, "celery_ezthrottle"):
        warn_at_start(Continuations(app, settings), app)
    said = [(record.levelname, record.message.split(":")[0]) for record in caplog.records[1:]]
    assert said == [("ERROR", "Task charge"), ("WARNING", "Task charge")]
