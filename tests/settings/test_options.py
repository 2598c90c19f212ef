"""The options of a task: their forms, and task option before setting before default."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest

from celery_ezthrottle.errors import ConfigurationError
from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.settings.options import OPTION_NAMES, Options, resolve, validate


def a_callable(request: object) -> bool:
    return True


def test_the_defaults_are_those_of_the_documentation() -> None:
    options = resolve({}, Settings())
    assert options == Options()
    assert options.forward_on == {429, 500, 502, 503, 504}
    assert options.forward_on_network_error == "safe"
    assert options.forward_hosts == ("public",)
    assert options.idempotency == "task"
    assert options.forward_on_retry is options.exhaust_retries is True
    assert options.send_unmatched is False


def test_a_setting_comes_before_the_default() -> None:
    settings = Settings(forward_on=frozenset({429, 503}), forward_on_retry=False, result_timeout=7200.0)
    options = resolve({}, settings)
    assert options.forward_on == {429, 503}
    assert options.forward_on_retry is False
    assert options.result_timeout == 7200.0


def test_a_task_option_comes_before_the_setting() -> None:
    settings = Settings(forward_on=(500,), regions=("iad",), send_unmatched=True, idempotency="hash")
    given = validate({"forward_on": [429], "send_unmatched": False, "idempotency": "unique"})
    options = resolve(given, settings)
    assert options.forward_on == {429}
    assert options.send_unmatched is False
    assert options.idempotency == "unique"
    assert options.regions == ("iad",)


def test_every_option_is_a_setting_of_the_same_kind_and_default() -> None:
    settings = {field.name: field for field in fields(Settings)}
    assert {field.name for field in fields(Options)} == OPTION_NAMES
    for option in fields(Options):
        assert settings[option.name].metadata["kind"] is option.metadata["kind"]
        assert settings[option.name].default == option.default


def test_an_unknown_option_is_a_type_error_that_lists_the_options() -> None:
    with pytest.raises(TypeError, match=r"unknown option 'forward_onn'; the options are .*forward_on,") as caught:
        validate({"regions": ["iad"], "forward_onn": {429}})
    assert not isinstance(caught.value, ConfigurationError)


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("forward_on", {429, 503}, frozenset({429, 503})),
        ("forward_on", ["429"], frozenset({429})),
        ("forward_on", (), frozenset()),
        ("forward_unsafe_on", {429, 503}, frozenset({429, 503})),
        ("forward_unsafe_on", (), frozenset()),
        ("forward_on_network_error", "never", "never"),
        ("forward_on_retry", False, False),
        ("forward_hosts", ["public", "*.internal"], ("public", "*.internal")),
        ("forward_signed_hosts", (), ()),
        ("forward_if", a_callable, a_callable),
        ("forward_if", None, None),
        ("is_limited", a_callable, a_callable),
        ("idempotency", "task", "task"),
        ("idempotency", "hash", "hash"),
        ("idempotency", "unique", "unique"),
        ("idempotency", "order-{order_id}", "order-{order_id}"),
        ("idempotency", "order-{order.id}-{lines[0]:>4}", "order-{order.id}-{lines[0]:>4}"),
        ("idempotency", a_callable, a_callable),
        ("idempotency_header", "Idempotency-Key", "Idempotency-Key"),
        ("idempotency_header", {"public": "Idempotency-Key"}, {"public": "Idempotency-Key"}),
        ("regions", ["iad", "lax"], ("iad", "lax")),
        ("region_policy", "strict", "strict"),
        ("execution_mode", "fanout", "fanout"),
        ("retry_policy", {"max_retries": 2}, {"max_retries": 2}),
        ("webhooks", [{"url": "https://h/x"}], ({"url": "https://h/x"},)),
        ("webhook_quorum", 2, 2),
        ("metadata", {"tenant": 1}, {"tenant": 1}),
        ("result_timeout", 60, 60.0),
        ("submit_timeout", 0.5, 0.5),
        ("exhaust_retries", False, False),
        ("send_unmatched", True, True),
    ],
)
def test_a_good_value_is_kept(name: str, value: Any, kept: Any) -> None:
    found = validate({name: value}, ["order_id", "order", "lines"])
    assert found == {name: kept}
    assert type(found[name]) is type(kept)


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("forward_on", 429, "a collection of HTTP error statuses"),
        ("forward_on", "429", "a collection of HTTP error statuses"),
        ("forward_on", ["too many"], "a collection of HTTP error statuses"),
        ("forward_on", {200}, "400 to 599"),
        ("forward_on", {600}, "400 to 599"),
        ("forward_on", {None}, "a collection of HTTP error statuses"),
        ("forward_unsafe_on", 429, "a collection of HTTP error statuses"),
        ("forward_unsafe_on", {200}, "400 to 599"),
        ("forward_on_network_error", "sometimes", "one of 'safe', 'always', 'never'"),
        ("forward_on_network_error", True, "one of 'safe', 'always', 'never'"),
        ("forward_on_retry", 1, "True or False"),
        ("forward_hosts", "public", "a list of strings"),
        ("forward_hosts", [""], "a list of strings"),
        ("forward_signed_hosts", [b"host"], "a list of strings"),
        ("forward_if", "api.stripe.com", "a callable"),
        ("is_limited", 429, "a callable"),
        ("idempotency", None, "one of 'task', 'hash', 'unique', a string with placeholders, or a callable"),
        ("idempotency_header", True, "the name of a header, or a mapping of hosts to names"),
        ("idempotency_header", "", "the name of a header"),
        ("idempotency_header", "Idempotency Key", "the name of a header"),
        ("idempotency_header", "Key\n", "the name of a header"),
        ("idempotency_header", ["Idempotency-Key"], "the name of a header"),
        ("idempotency_header", {"api.example.com": "Key:"}, "the name of a header"),
        ("idempotency_header", {"": "Idempotency-Key"}, "the name of a header"),
        ("regions", "iad", "a list of strings"),
        ("regions", 7, "a list of strings"),
        ("region_policy", "loose", "one of 'fallback', 'strict'"),
        ("execution_mode", ["race"], "one of 'race', 'fanout'"),
        ("retry_policy", 3, "a mapping"),
        ("webhooks", {"url": "https://h/x"}, "a list of mappings"),
        ("webhooks", "https://h/x", "a list of mappings"),
        ("webhooks", ["https://h/x"], "a list of mappings"),
        ("webhooks", [{"has_quorum_vote": True}], "a list of mappings"),
        ("webhook_quorum", 0, "a whole number above 0"),
        ("webhook_quorum", True, "a whole number above 0"),
        ("metadata", [("a", 1)], "a mapping"),
        ("result_timeout", 0, "a number of seconds above 0"),
        ("result_timeout", "60", "a number of seconds above 0"),
        ("submit_timeout", float("inf"), "a number of seconds above 0"),
        ("submit_timeout", float("nan"), "a number of seconds above 0"),
        ("submit_timeout", True, "a number of seconds above 0"),
        ("exhaust_retries", None, "True or False"),
        ("send_unmatched", "no", "True or False"),
    ],
)
def test_a_bad_value_is_named(name: str, value: Any, what: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        validate({name: value})
    assert str(caught.value).startswith(f"{name} must be ")
    assert what in str(caught.value)


@pytest.mark.parametrize("constant", ["order", "", "{{order_id}}", "{}"])
def test_a_constant_idempotency_string_would_merge_every_task(constant: str) -> None:
    with pytest.raises(ConfigurationError, match="constant string: every task would share one job; put an argument"):
        validate({"idempotency": constant})


@pytest.mark.parametrize("broken", ["order-{", "order-}", "{order_id!x-}"])
def test_a_broken_format_string_is_refused(broken: str) -> None:
    with pytest.raises(ConfigurationError, match="idempotency"):
        validate({"idempotency": broken}, ["order_id"])


@pytest.mark.parametrize("template", ["order-{order}", "{order.id}", "{order[id]}", "{order_id}-{order}"])
def test_a_placeholder_must_be_a_parameter_where_these_are_known(template: str) -> None:
    with pytest.raises(ConfigurationError, match="names 'order', which is no parameter of the task"):
        validate({"idempotency": template}, ["self", "order_id"])
    assert validate({"idempotency": template}) == {"idempotency": template}


def test_a_key_that_the_app_sets_must_fit_the_task_unless_it_has_its_own() -> None:
    settings = Settings(idempotency="order-{order_id}")
    with pytest.raises(ConfigurationError, match="names 'order_id', which is no parameter of the task"):
        resolve({}, settings, ["track"])
    assert resolve({"idempotency": "unique"}, settings, ["track"]).idempotency == "unique"


def test_a_shorter_wait_of_the_task_shortens_submitting_too() -> None:
    options = resolve(validate({"result_timeout": 60}), Settings(submit_timeout=3600.0))
    assert (options.result_timeout, options.submit_timeout) == (60.0, 60.0)


def test_deadlines_of_the_task_that_contradict_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"submit_timeout is above result_timeout.*lower the first or raise"):
        resolve(validate({"result_timeout": 60, "submit_timeout": 61}), Settings())
    options = resolve(validate({"result_timeout": 60, "submit_timeout": 60}), Settings())
    assert options.submit_timeout == 60.0


def test_more_forwards_of_a_call_need_keys_that_differ() -> None:
    with pytest.raises(ConfigurationError, match=r"max_forwards is above 1 and idempotency is \"hash\".*use \"task\""):
        resolve(validate({"max_forwards": 2}), Settings(idempotency="hash"))
    assert resolve(validate({"max_forwards": 2}), Settings()).max_forwards == 2
    # This service takes no two jobs without a key for one.
    assert resolve(validate({"max_forwards": 2}), Settings(idempotency="hash", dialect="local")).max_forwards == 2


@pytest.mark.parametrize(("value", "kept"), [(0, 0.0), (1.5, 1.5), (None, math.inf), (math.inf, math.inf)])
def test_the_wait_of_client_packages_may_be_none_or_endless(value: Any, kept: float) -> None:
    assert validate({"sdk_wait": value}) == {"sdk_wait": kept}


@pytest.mark.parametrize("value", [-1, math.nan, "2", True])
def test_another_wait_of_client_packages_is_refused(value: object) -> None:
    with pytest.raises(ConfigurationError, match="sdk_wait must be a number of seconds from 0, or None for never"):
        validate({"sdk_wait": value})


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True, None])
def test_max_forwards_is_a_count(value: object) -> None:
    with pytest.raises(ConfigurationError, match="max_forwards must be a whole number above 0"):
        validate({"max_forwards": value})


def test_unsafe_calls_are_forwarded_as_safe_ones_unless_the_task_says_otherwise() -> None:
    plain = Options(forward_on=frozenset({429}), retry_policy={"max_retries": 2})
    assert plain.statuses(safe=True) == plain.statuses(safe=False) == {429}
    assert plain.retry_policy_of(safe=False) == {"max_retries": 2}
    careful = Options(forward_unsafe_on=frozenset({503, 429}))
    assert careful.statuses(safe=True) == {429, 500, 502, 503, 504}
    assert careful.statuses(safe=False) == {429, 503}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (None, {"retry_codes": [429, 503], "reroute_codes": [429, 503]}),
        ({"max_retries": 1}, {"max_retries": 1, "retry_codes": [429, 503], "reroute_codes": [429, 503]}),
        ({"retry_codes": [500]}, {"retry_codes": [500], "reroute_codes": [429, 503]}),
    ],
)
def test_the_service_repeats_an_unsafe_call_no_more_often_than_the_task_allows(policy: Any, expected: Any) -> None:
    options = Options(forward_unsafe_on=frozenset({503, 429}), retry_policy=policy)
    assert options.retry_policy_of(safe=False) == expected
    assert options.retry_policy_of(safe=True) == policy
