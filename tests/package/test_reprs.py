"""What an object shows of itself ends up in logs, tracebacks and error trackers: neither secrets nor what tasks send and get."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
from typing import Any

import httpx
import pytest
import requests

import celery_ezthrottle
from celery_ezthrottle._common.validators import Kind
from celery_ezthrottle.batches.mark import Mark
from celery_ezthrottle.batches.outcome import BatchOutcome, BatchStatus, MemberFailure
from celery_ezthrottle.broker.confirmed_publish import _Broker
from celery_ezthrottle.checks.findings import Finding
from celery_ezthrottle.cli.limits_shown import ShownLimit
from celery_ezthrottle.client.ezthrottle import EZThrottle
from celery_ezthrottle.continuations.job_result import JobResult, Told
from celery_ezthrottle.continuations.submissions import _Waiting
from celery_ezthrottle.continuations.tickets import Ticket
from celery_ezthrottle.errors import ForwardToEZThrottle, StepFailed
from celery_ezthrottle.gateway import GatewayConfig, acts, dispatcher, exchange, rows, workflow
from celery_ezthrottle.gateway.attempts import Attempt
from celery_ezthrottle.gateway.endings import Ending
from celery_ezthrottle.gateway.retries import Tried
from celery_ezthrottle.gateway.telling import Message
from celery_ezthrottle.http.call import Call, _Released
from celery_ezthrottle.http.fingerprint import fingerprint
from celery_ezthrottle.http.httpx_adapter import Httpx
from celery_ezthrottle.http.journal import Entry
from celery_ezthrottle.http.library import SentRequest
from celery_ezthrottle.http.message_view import MessageView
from celery_ezthrottle.http.requests_adapter import REQUESTS
from celery_ezthrottle.http.stored_answer import StoredError, StoredResponse
from celery_ezthrottle.limits.bucket import Bucket
from celery_ezthrottle.limits.known import KnownLimit
from celery_ezthrottle.limits.told import Notice
from celery_ezthrottle.limits.turns import Calls, Learned, Queued, Status, Turn
from celery_ezthrottle.policy.forward_request import ForwardRequest
from celery_ezthrottle.progress.progress import Flushed
from celery_ezthrottle.receiver.payload import Payload
from celery_ezthrottle.receiver.reply import Reply
from celery_ezthrottle.service.account import Account
from celery_ezthrottle.service.client import ServiceClient
from celery_ezthrottle.service.connections import Answer
from celery_ezthrottle.service.dialects import ServiceRequest
from celery_ezthrottle.service.job import Job, RetryPolicy, Trigger, Webhook
from celery_ezthrottle.service.service_answer import JobState, ServiceAnswer, Submitted
from celery_ezthrottle.service.words import Words
from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.settings.dialects import Needs
from celery_ezthrottle.settings.limit import Limit, Window
from celery_ezthrottle.settings.options import Options
from celery_ezthrottle.steps import actions, cut, turns
from celery_ezthrottle.steps.explain import _Line
from celery_ezthrottle.steps.plan import _Place, plan
from celery_ezthrottle.steps.spec import StepSpec
from celery_ezthrottle.store import records
from celery_ezthrottle.store.states import State, Transition
from celery_ezthrottle.tasks.body import _Execution, _WantedRetry
from celery_ezthrottle.tasks.handing_over import HandedOver
from celery_ezthrottle.tasks.incoming import Incoming
from celery_ezthrottle.tasks.learning import Passed
from celery_ezthrottle.workflows.local_call import Sent
from celery_ezthrottle.workflows.signatures import signature
from celery_ezthrottle.workflows.step import Step
from celery_ezthrottle.workflows.step_run import Delivered
from celery_ezthrottle.workflows.submission import Submission as SubmissionOfStep
from tests.store.bench import park

CANARY = re.compile(r"canary in \w+")
URL = "https://user:canary in password@api.example.com/v1?token=canary in query"
HOOK = {"url": "https://app.example.com/hook?token=canary in webhook"}

FINGERPRINT = fingerprint("POST", URL, b"canary in body")
RESPONSE = StoredResponse(
    status_code=200, url=URL, headers=(("Set-Cookie", "canary in headers"),), content=b"canary in content"
)
ERROR = StoredError(name="ConnectionError", text="Max retries exceeded with url: /v1?token=canary in text")
CLAIM = records.Claim(
    id="c",
    task_id="t",
    state=State.STORED,
    job=b"canary in job",
    message=b"canary in message",
    envelope=b"canary in envelope",
    failure=b"canary in failure",
    job_id="j",
    suspended_at=1.0,
    submit_deadline=2.0,
    deadline=3.0,
    attempts=0,
    publications=0,
    maybe_accepted=False,
)
JOB = Job(
    url="https://user:canary@api.example.com/v1?token=canary+in+query",
    method="POST",
    headers={"Authorization": "canary in headers"},
    body="canary in body",
    metadata={"card": "canary in metadata"},
    idempotent_key="canary in key",
)


def _response() -> requests.Response:
    made = requests.Response()
    made.status_code, made.url, made._content = 429, URL, b"canary in content"
    return made


CALL = Call(
    library=REQUESTS,
    request=requests.Request("POST", URL, {"Authorization": "canary in headers"}, data="canary in body").prepare(),
    arguments={"cert": "canary in arguments"},
    response=_response(),
    error=requests.ConnectionError(f"Max retries exceeded with url: {URL}"),
    key="canary in key",
)

REQUEST = httpx.Request("POST", URL, headers={"Authorization": "canary in headers"}, content="canary in body")
CALL_OF_HTTPX = Call(
    library=Httpx(httpx),
    request=REQUEST,
    arguments={"auth": ("user", "canary in arguments")},
    response=httpx.Response(
        429, headers={"Set-Cookie": "canary in cookie"}, content="canary in content", request=REQUEST
    ),
    error=httpx.ConnectError(f"no route to {URL}", request=REQUEST),
)

ENDING = Ending(True, 200, 1.0, 1, ("iad",), {"response": {"body": "canary in body"}}, "d")

STEP = StepSpec(
    url=JOB.url,
    headers={"Authorization": "canary in headers"},
    body="canary in body",
    metadata={"card": "canary in metadata"},
    webhooks=({"url": "https://app.example.com/hook?token=canary+in+webhook"},),
    idempotent_key="canary in key",
    fallbacks=((StepSpec(url=JOB.url, body="canary in fallback"), None),),
    on_success=StepSpec(url=JOB.url, body="canary in child"),
)
ATTEMPT = cut.attempts(STEP)[0]
FAILED = actions.Outcome(None, "canary in error")

#: One of each, with a canary in whatever holds a secret, or something of a task's.
SECRETIVE: list[Any] = [
    Settings(
        api_key="canary in api_key",
        webhook_secret="canary in webhook_secret",
        webhook_secret_secondary="canary in webhook_secret_secondary",
        store="redis://:canary in store@localhost",
        store_options={"password": "canary in store_options"},
        webhooks=[HOOK],
        metadata={"tenant": "canary in metadata"},
    ),
    Options(webhooks=(HOOK,), metadata={"tenant": "canary in metadata"}),
    GatewayConfig("canary in api_key", "canary in webhook_secret"),
    ServiceClient("canary in api_key"),
    ServiceClient("canary in api_key", dialect="direct"),
    ServiceClient("canary in api_key").dialect,
    Account("canary in api_key", "https://ez.example.com", "https://tracktags.example.com"),
    Answer(400, {"Set-Cookie": "canary in cookie"}, "canary in text"),
    Sent(FAILED, "canary in text"),
    Delivered(Told(body="canary in body"), 1.0, 2.0),
    SubmissionOfStep(JOB, shared=True),
    HandedOver(Told(body="canary in body"), JobResult(RESPONSE, given_up=False)),
    ServiceRequest(
        party="The proxy",
        method="POST",
        url="https://tracktags.example.com",
        headers={"Authorization": "Bearer canary in headers"},
        body="canary in body",
    ),
    Submitted("j", "", duplicate=False, answer={"echo": "canary in answer"}),
    ServiceAnswer(party="The proxy", status=400, text="canary in text", now=1.0, secrets=("canary in secret",)),
    JOB,
    _Waiting("c", "t", "proj.charge", JOB, 1.0, 2.0, 3.0),
    Webhook("https://app.example.com/hook?token=canary+in+webhook"),
    ForwardRequest({"url": URL, "headers": {"Authorization": "canary in headers"}}, RuntimeError("canary in error")),
    ForwardToEZThrottle(url=URL, headers={"Authorization": "canary in headers"}, body="canary in body"),
    EZThrottle("canary in api_key"),
    RESPONSE,
    StoredResponse(status_code=200, history=(RESPONSE,)),
    ERROR,
    FINGERPRINT,
    Entry(fingerprint=FINGERPRINT, answer=RESPONSE, key="canary in key"),
    JobResult(RESPONSE, given_up=False),
    JobResult(ERROR, given_up=True),
    CALL,
    CALL_OF_HTTPX,
    _Released(can_be_kept=True, has_stream=False, answer=RESPONSE),
    _WantedRetry(CALL, print),
    _Execution(
        None, None, {}, {"message": "canary in message"}, print, ("canary in args",), {"card": "canary in kwargs"}
    ),
    Incoming(None, False, {"args": ["canary in args"]}, {}),
    park(
        message=b"canary in message",
        envelope=b"canary in envelope",
        journal=b"canary in journal",
        job=b"canary in job",
        failure=b"canary in failure",
    ),
    CLAIM,
    records.Resumption(
        outcome=records.StartOutcome.STARTED,
        journal=b"canary in journal",
        failure=b"canary in failure",
        result=b"canary in result",
    ),
    records.TaskRecord(forwards=1, journal=b"canary in journal", state=None),
    records.Woken(claims=[CLAIM]),
    records.DeliverOutcome(verdict=records.Verdict.FIRST, claims=[CLAIM]),
    rows.Submission(JOB, "canary in key", "d", "canary in wire"),
    rows.Work("key:canary in dedupe", "canary in wire", "canary in answer", None, (), frozenset()),
    rows.JobState("j", "queued", URL, "POST", 1.0, (), rows.Quorum(0, 0, 0)),
    acts._Unfinished("j", "canary in key", 0, {0: ENDING}, JOB),
    ENDING,
    Message(HOOK["url"], b"canary in body", vote=True),
    Attempt(exchange.UpstreamResponse(200, {}, "canary in body"), None, 1.0, is_cut=False),
    rows.Delivery("j", HOOK["url"], b"canary in body", 0, 1.0),
    SentRequest("POST", URL, {"Authorization": "canary in headers"}, b"canary in body"),
    MessageView("POST", URL, {"authorization": "canary in headers"}, "canary in body"),
    exchange.UpstreamResponse(200, {"set-cookie": "canary in headers"}, "canary in body", "canary in base64"),
    STEP,
    ATTEMPT,
    cut.first_cut(STEP),
    turns.turns(STEP)[0],
    turns.Due("on_success", STEP, nested=True),
    plan(STEP),
    _Place(STEP, began=True),
    _Line(STEP, "on_success", "in a job"),
    actions.Call("", STEP, 1.0),
    actions.Child("on_success", STEP, "start"),
    actions.Ended(False, "", FAILED, (actions.Child("on_success", STEP, "start"),)),
    FAILED,
    signature(STEP),
    Step().url(JOB.url).header("Authorization", "canary in headers").body("canary in body"),
    StepFailed({"step": STEP.title, "error": "HTTP 500", "response": "canary in response"}),
    Told(body="canary in body", reason="canary in reason"),
    Delivered(Told(body="canary in body", reason="canary in reason"), 1.0, 2.0),
    HandedOver(Told(body="canary in body"), JobResult(RESPONSE, given_up=True)),
    Sent(FAILED, "canary in body"),
    SubmissionOfStep(JOB, shared=True),
    BatchOutcome(["canary in results"]),
    MemberFailure(0, "proj.charge", "t", RuntimeError("canary in error")),
    Payload("job_1", "success", {"body": "canary in body"}, "canary in reason", 14),
]
#: What holds nothing of the kind.
HARMLESS = {
    BatchStatus,
    Mark,
    Bucket,
    Flushed,
    KnownLimit,
    Learned,
    Limit,
    Notice,
    Passed,
    Calls,
    Queued,
    ShownLimit,
    Status,
    Ticket,
    Turn,
    Window,
    _Broker,
    records.Counts,
    Finding,
    JobState,
    Kind,
    Needs,
    records.Health,
    records.Turns,
    Reply,
    RetryPolicy,
    Transition,
    Tried,
    Trigger,
    Words,
    actions.Submit,
    actions.Watch,
    dispatcher._Current,
    rows.Added,
    rows.Effects,
    rows.Quorum,
    rows.Timer,
    rows.Waiting,
    workflow.Failure,
}


@pytest.mark.parametrize("secretive", SECRETIVE, ids=lambda made: f"{type(made).__module__}.{type(made).__name__}")
def test_what_is_shown_has_no_secrets(secretive: object) -> None:
    assert CANARY.findall(repr(secretive).replace("+", " ").replace("%20", " ")) == []


def test_every_class_that_shows_its_fields_was_looked_at() -> None:
    modules = [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(celery_ezthrottle.__path__, "celery_ezthrottle.")
    ]
    found = {
        kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__ == module.__name__
    }
    assert found - {type(made) for made in SECRETIVE} - HARMLESS == set()
