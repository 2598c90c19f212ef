"""What each HTTP library and each client package supports: the tables of docs/tasks.md, made of the tests that show it.

``python -m tests.support.support_table`` writes them into the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["PAGE", "TABLES", "Not", "Row", "Table", "written"]

PAGE = Path(__file__).parents[2] / "docs" / "tasks.md"


@dataclass(frozen=True)
class Not:
    """A cell that no test shows, and why."""

    why: str


@dataclass(frozen=True)
class Row:
    """One line.

    Attributes:
        says: what is supported.
        test: the test that shows it; ``{}`` in it stands for the column.
        but: the columns that another test shows, or none.
    """

    says: str
    test: str = ""
    but: Mapping[str, str | Not] = field(default_factory=dict)

    def cell(self, column: str) -> str | Not:
        """The id of the test that shows it for ``column``, or why there is none."""
        shown = self.but.get(column, self.test)
        return shown if isinstance(shown, Not) else shown.replace("{}", column)


@dataclass(frozen=True)
class Table:
    """One table. ``columns`` are the names that the ids of the tests have, and what a reader calls them."""

    name: str
    head: str
    columns: Mapping[str, str]
    rows: Sequence[Row]

    def tests(self) -> Iterator[str]:
        """The id of each test that the table names."""
        cells = (row.cell(column) for row in self.rows for column in self.columns)
        return (cell for cell in cells if isinstance(cell, str))

    def rendered(self) -> str:
        lines = [[self.head, *self.columns.values()], ["---"] * (len(self.columns) + 1)]
        for row in self.rows:
            cells = [row.cell(column) for column in self.columns]
            lines.append([row.says, *(cell.why if isinstance(cell, Not) else "yes" for cell in cells)])
        return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


_SHAPES = "tests/tasks/test_shapes.py::"
_HTTPX = "tests/tasks/test_httpx.py::"
_OUTCOMES = "tests/tasks/test_outcomes.py::"
_DELIVERED = "tests/tasks/test_delivered_answer.py::"
_PASSING_ON = "tests/http/test_passing_on.py::"
_FORWARDED = f"{_SHAPES}test_a_limited_call_is_forwarded_and_answered"
_CONNECTIONS = "test_what_the_service_cannot_do_is_not_forwarded"
_ASYNC = "httpx2-async"
_ONE_AT_A_TIME = Not("one call at a time; use threads")

LIBRARIES = Table(
    "libraries",
    "a task that calls with",
    {"requests": "`requests`", "httpx": "`httpx`", "httpx2": "`httpx2`", _ASYNC: "`AsyncClient` of `httpx2`"},
    [
        Row("a limited call is forwarded, and answered in the resumed run", f"{_FORWARDED}[gives_a_row_back-{{}}]"),
        Row("`self.retry()` after it is held back", f"{_FORWARDED}[retries_with_exc-{{}}]"),
        Row("an error of the task's own after a look at the status", f"{_FORWARDED}[own_exception_without_cause-{{}}]"),
        Row("a limit that the task tolerates is left alone", f"{_SHAPES}test_a_tolerated_limit_is_not_forwarded[{{}}]"),
        Row("a call that reached no server is forwarded", f"{_SHAPES}test_a_host_that_cannot_be_reached[{{}}]"),
        Row(
            "a limited response that is streamed is forwarded, and read from the answer",
            f"{_FORWARDED}[streams-{{}}]",
        ),
        Row(
            "retries of the transport come first",
            but={
                "requests": f"{_SHAPES}test_retries_of_the_adapter_come_first",
                **dict.fromkeys(("httpx", "httpx2", _ASYNC), Not("its own are for connections only")),
            },
        ),
        Row(
            "calls that were answered are not made again",
            f"{_SHAPES}test_pages_that_were_answered_are_not_asked_for_again[{{}}]",
        ),
        Row(
            "calls in threads",
            "tests/tasks/test_progress.py::test_charges_of_threads_are_made_once[prefork-{}]",
        ),
        Row(
            "calls beside one another in an event loop: `gather`, `TaskGroup`",
            but={
                **dict.fromkeys(("requests", "httpx", "httpx2"), _ONE_AT_A_TIME),
                _ASYNC: f"{_HTTPX}test_siblings_that_were_answered_are_not_sent_again[prefork-groups-httpx2]",
            },
        ),
        Row(
            "the answer has the bytes, the encoding and the text of a real one",
            f"{_DELIVERED}test_through_a_service_that_sends_text[{{}}-Latin-1 page]",
        ),
        Row(
            "its cookies reach the response and the session",
            f"{_DELIVERED}test_every_cookie_reaches_response_and_session[celery-{{}}]",
        ),
        Row(
            "a job that failed raises an error of the library",
            f"{_OUTCOMES}test_a_job_that_failed_without_a_response[{{}}]",
        ),
        Row("an outcome that is unknown is final", f"{_OUTCOMES}test_what_is_never_heard_of_again_is_unknown[{{}}]"),
        Row(
            "a redirect that is delivered is followed",
            f"{_PASSING_ON}test_a_delivered_redirect_is_followed[{{}}-307-POST-followed_by8]",
        ),
        Row(
            "a challenge that is delivered is met (Digest)",
            f"{_PASSING_ON}test_a_delivered_challenge_is_met_with_digest[{{}}-POST]",
        ),
        Row(
            "a response hook that raises does so again",
            "tests/http/test_recorder.py::test_a_hook_that_raises_for_the_status_does_so_again[{}]",
        ),
        Row(
            "a small form with files of text (multipart) is forwarded",
            "tests/http/test_forms.py::test_a_small_form_of_text_can_be_forwarded_as_it_was_sent[{}]",
        ),
        Row(
            "`idempotency_header`",
            "tests/tasks/test_unsafe_calls.py::test_the_forwarded_call_has_the_key_of_the_first_try[{}]",
        ),
        Row(
            "one callable option for all libraries (`message_view`)",
            f"{_SHAPES}test_a_callable_option_that_serves_every_library[{{}}]",
        ),
        Row(
            "`verify=False` is left alone",
            f"tests/http/test_httpx_connections.py::{_CONNECTIONS}[verify=False-{{}}]",
            {"requests": f"tests/policy/test_obstacles.py::{_CONNECTIONS}[arguments2-verify=False]"},
        ),
        Row(
            "a certificate that is not trusted is left alone",
            "tests/http/test_httpx_connections.py::test_a_certificate_that_is_not_trusted_is_no_network_error_also_when_it_was_stored[{}]",
        ),
        Row("a transport of your own", "tests/http/test_recorder.py::test_a_transport_of_the_tasks_own_sends_once[{}]"),
        Row(
            "mocks: `responses`, `respx`, `MockTransport`",
            "tests/http/test_beside_mocks.py::test_a_mock_answers_and_is_not_asked_again[by_a_mock_transport-{}]",
            {
                "requests": "tests/http/test_beside_mocks.py::test_a_mock_answers_and_is_not_asked_again[by_responses-requests]",
                "httpx": "tests/http/test_beside_mocks.py::test_a_mock_answers_and_is_not_asked_again[by_respx-httpx]",
            },
        ),
    ],
)

_SDKS = "tests/sdks/"
_CALLS = f"{_SDKS}test_calls.py::"
_HAS_NONE = Not("it has none")
_OBEYING = ("openai", "anthropic", "groq")

CLIENTS = Table(
    "clients",
    "a task that calls with",
    {name: f"`{name}`" for name in (*_OBEYING, "mistralai", "cohere", "stripe")}
    | {"github": "`PyGithub`", "twilio": "`twilio`"},
    [
        Row(
            "a limited call is forwarded, and gives the typed result",
            f"{_CALLS}test_a_limited_call_is_forwarded_at_once_and_gives_a_typed_result[{{}}-decorator-prefork]",
        ),
        Row(
            "its own error when the service gives up",
            f"{_CALLS}test_a_call_that_the_service_gives_up_gets_the_error_of_the_package[{{}}-decorator-503]",
        ),
        Row(
            "an outcome that is unknown is final",
            f"{_CALLS}test_a_call_without_an_answer_is_final[{{}}-OutcomeUnknown]",
        ),
        Row(
            "`with_raw_response`",
            f"{_CALLS}test_the_raw_response_is_that_of_the_service[{{}}]",
            dict.fromkeys(("mistralai", "stripe", "github", "twilio"), _HAS_NONE),
        ),
        Row(
            "its own retries do not hold the slot",
            f"{_SDKS}test_waits.py::test_no_wait_at_all_is_left_to_the_package[{{}}]",
            {
                "mistralai": Not("it has none, unless you ask for them"),
                "cohere": Not("turn them off: `max_retries=0`"),
                "stripe": Not("none at 429; else turn them off: `max_network_retries=0`"),
                "github": Not("turn them off: `retry=None`"),
                "twilio": Not("it has none, unless you ask for them"),
            },
        ),
        Row(
            "its asynchronous client, with `gather`",
            f"{_SDKS}test_async.py::test_one_limited_call_of_three_at_once_is_forwarded_alone[0-{{}}-prefork]",
            {
                "github": _HAS_NONE,
                "twilio": Not("no: it stands on `aiohttp`"),
            },
        ),
        Row(
            "a stream that is limited",
            f"{_SDKS}test_streams.py::test_a_limited_stream_is_forwarded_and_read_from_the_answer[streams-{{}}-prefork]",
            dict.fromkeys(("stripe", "github", "twilio"), _HAS_NONE),
        ),
    ],
)

TABLES = (LIBRARIES, CLIENTS)


def written(page: str) -> str:
    """Return the text of the page with the tables as they are now, between their marks.

    Raises:
        ValueError: the page has no marks for a table.
    """
    for table in TABLES:
        mark = re.compile(rf"(<!-- {table.name}: [^\n]* -->\n).*?(<!-- end -->)", re.DOTALL)
        if not mark.search(page):
            raise ValueError(f"the page has no marks for the table of {table.name}")
        page = mark.sub(lambda found, table=table: f"{found[1]}{table.rendered()}{found[2]}", page)  # type: ignore[misc]
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
