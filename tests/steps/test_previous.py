"""A step takes the previous result, and no value leaves the place where it is put."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_ezthrottle import Step, step_function
from celery_ezthrottle.errors import ConfigurationError, InvalidJob
from celery_ezthrottle.steps.previous import NOTHING, fill
from celery_ezthrottle.steps.results import step_result
from celery_ezthrottle.steps.spec import StepSpec

URL = "https://api.example.com/v1"
FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
JSON = {"content-type": "application/vnd.api+json"}
ORDER = {
    "id": 7,
    "name": 'Ann "A" & Co/é',
    "items": [{"sku": "a"}, {"sku": "b"}],
    "paid": False,
    "note": None,
    "empty": "",
}


def url(template: str, previous: Any = ORDER) -> str:
    return fill(Step().url(template).spec, previous).url


def header(template: str, previous: Any = ORDER) -> str:
    return fill(Step().url(URL).header("X-Note", template).spec, previous).headers["X-Note"]


def body(template: str, previous: Any = ORDER, headers: Mapping[str, str] | None = None) -> str | None:
    return fill(Step().url(URL).headers(headers or {}).body(template).spec, previous).body


# Where a value comes from


def test_a_step_without_a_placeholder_takes_nothing() -> None:
    spec = Step().url(f"{URL}?q={{}}").body('{"a": {"result": 1}}').header("X", "{other}").spec
    assert not spec.takes_result
    assert fill(spec) is spec


def test_the_result_of_a_task_is_its_return_value() -> None:
    assert url(f"{URL}/{{result[items][1][sku]}}") == f"{URL}/b"
    assert url(f"{URL}/{{result}}", "a b") == f"{URL}/a%20b"
    assert url(f"{URL}/{{result[0]}}", ("x", "y")) == f"{URL}/x"
    assert body("{result}", ("x", 1)) == '["x", 1]'


@pytest.mark.parametrize(("response", "result"), [('{"id": 7}', '{"id": 7}'), ("plain", '"plain"'), (None, "null")])
def test_the_result_of_a_step_is_its_response(response: str | None, result: str) -> None:
    previous = step_result(StepSpec(URL), succeeded=True, executed_locally=True, status_code=201, response=response)
    assert body('{"result": {result}, "status": "{step[status_code]}"}', previous) == (
        f'{{"result": {result}, "status": "201"}}'
    )
    assert body("{result}", json.loads(json.dumps(previous))) == result


def test_the_mapping_of_a_step_is_not_there_behind_another_task() -> None:
    with pytest.raises(InvalidJob, match=r"\{step\[...\]\} reads the result of a step"):
        url(f"{URL}/{{step[status_code]}}")


@pytest.mark.parametrize("name", ["nothing", "id][x", "items][2", "items][-1", "items][sku", "name][0", "'id'"])
def test_a_missing_name_is_an_error(name: str) -> None:
    placeholder = f"{{result[{name}]}}"
    for made in (Step().url(f"{URL}/{placeholder}"), Step().url(URL).body(placeholder)):
        with pytest.raises(InvalidJob, match="is missing: the previous result has no such value") as caught:
            fill(made.spec, ORDER)
        assert placeholder.startswith(str(caught.value).split("}")[0])


def test_without_a_previous_result() -> None:
    spec = Step().url(f"{URL}/{{result}}").spec
    with pytest.raises(InvalidJob, match="and there is none"):
        fill(spec)
    with pytest.raises(InvalidJob, match="and there is none"):
        fill(Step().url(URL).from_result("any").spec, NOTHING)


def test_what_is_written_twice_is_text() -> None:
    assert Step().url(f"{URL}?q={{{{result}}}}").body("{{result[a]}} {{step}}").spec == StepSpec(
        f"{URL}?q={{result}}", body="{result[a]} {step}"
    )
    assert (
        body('{"a": "{{result[id]}} {result[id]}", "b": {"c": {result[id]}}}')
        == '{"a": "{result[id]} 7", "b": {"c": 7}}'
    )


def test_only_the_request_is_filled() -> None:
    child = Step().url(f"{URL}/{{result[id]}}")
    made = Step().url(f"{URL}/{{result}}").idempotent_key("{result}").on_success(child).description("{result}").spec
    filled = fill(made, 5)
    assert (filled.url, filled.idempotent_key, filled.description) == (f"{URL}/5", "{result}", "{result}")
    assert filled.on_success is made.on_success
    assert not filled.takes_result


# In a URL

TEXT = st.text(min_size=1).filter(lambda text: text not in {".", ".."})


@settings(deadline=None)
@given(TEXT)
def test_a_value_stays_in_its_part_of_the_url(value: str) -> None:
    parts = urlsplit(url(f"{URL}/users/{{result}}/x?a={{result}}&b=1#{{result}}", value))
    assert parts.netloc == "api.example.com"
    assert [unquote(segment) for segment in parts.path.split("/")] == ["", "v1", "users", value, "x"]
    assert parse_qs(parts.query, keep_blank_values=True) == {"a": [value], "b": ["1"]}
    assert unquote(parts.fragment) == value


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_no_value_names_another_resource(value: str) -> None:
    with pytest.raises(InvalidJob, match="resource"):
        url(f"{URL}/users/{{result}}", value)
    assert url(f"{URL}/users?name={{result}}", value) == f"{URL}/users?name={value}"


def test_two_values_make_no_step_up() -> None:
    with pytest.raises(InvalidJob, match=r"\.\."):
        url(f"{URL}/{{result[a]}}{{result[a]}}/x", {"a": "."})
    assert url(f"{URL}/../{{result}}", "a") == f"{URL}/../a"


def test_names_may_have_what_a_url_does_not() -> None:
    assert url(f"{URL}/{{result[a/b?c#d e]}}", {"a/b?c#d e": "x"}) == f"{URL}/x"


@pytest.mark.parametrize("template", [
    "https://{result}/", "https://{result[a/b]}.example.com/", "https://api.{result}", "https://api.example.com:{result}/",
    "https://{result}@api.example.com/",
])  # fmt: skip
def test_a_value_chooses_no_host(template: str) -> None:
    with pytest.raises(InvalidJob, match="before its path"):
        Step().url(template).spec  # noqa: B018


@pytest.mark.parametrize("template", ["{result}", "{result}://api.example.com/", "ftp://api.example.com/{result}"])
def test_the_rest_of_a_url_is_checked_at_once(template: str) -> None:
    with pytest.raises(InvalidJob, match=r"^url must be"):
        Step().url(template)


# In a header


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "\0", "€"])
def test_a_header_carries_no_line_breaks(value: str) -> None:
    with pytest.raises(InvalidJob, match=r"headers\['X-Note'\]: \{result\} has line breaks"):
        header("note {result}", value)
    assert header("note {result}", "é") == "note é"


# In a body

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(VALUES)
@pytest.mark.parametrize("headers", [JSON, {}, {"Content-Type": "application/json; charset=utf-8"}], ids=str)
def test_a_value_of_json(headers: dict[str, str], value: Any) -> None:
    filled = body('{"a": {result}, "b": [{result[0]}, "}"]}', [value], headers)
    assert json.loads(filled or "") == {"a": [value], "b": [value, "}"]}


@settings(deadline=None)
@given(st.text())
def test_a_value_in_a_string_of_json(value: str) -> None:
    filled = body(r'{"{result}": "\"{result}\\", "c": "{result}{result}"}', value, JSON)
    assert json.loads(filled or "") == {value: f'"{value}\\', "c": value + value}


def test_what_is_no_string_in_a_string_of_json() -> None:
    filled = body('{"prompt": "Sum up: {result[items]} {result[paid]} {result[id]}"}')
    assert json.loads(filled or "") == {"prompt": 'Sum up: [{"sku": "a"}, {"sku": "b"}] false 7'}


@pytest.mark.parametrize("template", ['{"a": "\\{result}"}', '{"a": "x\\\\\\{result}"}'])
def test_a_backslash_before_a_value_would_escape_it(template: str) -> None:
    with pytest.raises(InvalidJob, match="backslash"):
        body(template, '"', JSON)


@pytest.mark.parametrize("template", [
    '{"a": 1{result}}', "{result}{result}", "{{result}: 1}", '{"a": -{result}}', '{"a": "{result}}', "id={result}",
])  # fmt: skip
def test_a_body_that_should_be_json_and_is_not(template: str) -> None:
    with pytest.raises(InvalidJob, match="body is no JSON although its Content-Type says so"):
        Step().url(URL).headers(JSON).body(template).spec  # noqa: B018
    with pytest.raises(InvalidJob, match="body is no JSON"):
        Step().url(URL).body(template).headers(JSON).spec  # noqa: B018


@settings(deadline=None)
@given(st.text())
def test_a_value_of_a_form(value: str) -> None:
    filled = body("a={result}&b=1", value, FORM)
    assert parse_qsl(filled or "", keep_blank_values=True, strict_parsing=True) == [("a", value), ("b", "1")]


def test_a_value_in_another_text() -> None:
    """It is not escaped: the step knows nothing of that format."""
    headers = {"Content-Type": "text/plain"}
    assert body("{result[name]}, {result[paid]}, {result[items]}", headers=headers) == (
        'Ann "A" & Co/é, false, [{"sku": "a"}, {"sku": "b"}]'
    )
    assert body("id={result[id]}") == "id=7"
    assert body("{result[0]}", [{"a": "é"}], headers) == '{"a": "é"}'


@pytest.mark.parametrize(("made", "previous", "words"), [
    (Step().url(f"{URL}/{{result[note]}}"), ORDER, "is null"),
    (Step().url(f"{URL}/{{result}}"), ORDER, "is an object"),
    (Step().url(f"{URL}?a={{result[items]}}"), ORDER, "is a list"),
    (Step().url(URL).header("X", "{result[note]}"), ORDER, "is null"),
    (Step().url(URL).headers(FORM).body("a={result[items]}"), ORDER, "is a list"),
    (Step().url(URL).headers(JSON).body('{"a": "{result[note]}"}'), ORDER, "is null"),
    (Step().url(URL).body("{result}"), math.nan, "JSON cannot express"),
    (Step().url(URL).body("{result}"), object(), "JSON cannot express"),
    (Step().url(f"{URL}/{{result}}"), object(), "JSON cannot express"),
    (Step().url(f"{URL}/{{result}}"), "s3cr3t\ud800", "half a surrogate"),
    (Step().url(URL).headers(FORM).body("a={result}"), "s3cr3t\ud800", "half a surrogate"),
    (Step().url(URL).body("text {result}"), "s3cr3t\ud800", "half a surrogate"),
    (Step().url(URL).header("X", "{result}"), "s3cr3t\n", "line breaks"),
])  # fmt: skip
def test_what_cannot_be_in_a_place_is_an_error_without_values(made: Step, previous: Any, words: str) -> None:
    with pytest.raises(InvalidJob, match=words) as caught:
        fill(made.spec, previous)
    assert "s3cr3t" not in str(caught.value)
    assert "{result" in str(caught.value) or words == "half a surrogate"


# By a function


@step_function("tests.steps.request_of")
def request_of(result: Any) -> dict[str, Any]:
    overrides: dict[str, Any] = result
    return overrides


def test_a_function_makes_the_request() -> None:
    made = Step().method("PUT").header("authorization", "a").header("X", "{result[y]}").body("{result[y]}")
    given = {"url": URL, "headers": {"Authorization": "b", "Y": "c"}, "y": "1"}

    @step_function("tests.steps.some_of_it")
    def some_of_it(result: Mapping[str, Any]) -> dict[str, Any]:
        return {name: result[name] for name in ("url", "headers")}

    filled = fill(made.from_result("tests.steps.some_of_it").spec, given)

    assert (filled.url, filled.method, filled.body) == (URL, "PUT", '"1"')
    assert filled.headers == {"X": "1", "Authorization": "b", "Y": "c"}


def test_what_a_function_gives_is_no_template() -> None:
    made = Step().url(f"{URL}/{{result[missing]}}").from_result("tests.steps.request_of").spec
    assert fill(made, {"url": f"{URL}?q={{result}}", "body": "{result}"}).body == "{result}"


def test_a_function_gets_the_response_of_a_step() -> None:
    previous = step_result(StepSpec(URL), succeeded=True, executed_locally=True, response=json.dumps({"url": URL}))
    assert fill(Step().from_result("tests.steps.request_of").spec, previous).url == URL


@pytest.mark.parametrize("given", [
    None, [], {"uri": URL}, {"headers": []}, {"headers": {"a": 1}}, {"headers": {1: "a"}}, {"url": "x"}, {"url": ""},
    {"method": "?"}, {"body": {}}, {"url": None},
])  # fmt: skip
def test_what_a_function_may_not_return(given: Any) -> None:
    with pytest.raises(InvalidJob):
        fill(Step().url(URL).from_result("tests.steps.request_of").spec, given)


def test_without_a_url() -> None:
    with pytest.raises(InvalidJob, match="url is missing: neither"):
        fill(Step().from_result("tests.steps.request_of").spec, {})


def test_a_function_that_is_not_registered() -> None:
    with pytest.raises(ConfigurationError, match="no function is registered as 'nobody' in this process: import"):
        fill(Step().url(URL).from_result("nobody").spec, 5)


def test_a_name_is_taken_once() -> None:
    assert step_function("tests.steps.request_of")(request_of) is request_of
    with pytest.raises(ConfigurationError, match=r"is tests\.steps\.test_previous\.request_of: take another name"):
        step_function("tests.steps.request_of")(lambda _: {})
