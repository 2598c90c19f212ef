"""One row for each client package: how its client is made, one call, and what must come of it.

Nothing is imported before a row is used, so that this module can be read where a package is not installed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from tests.support.upstream import Answer

__all__ = ["ASKED", "SAID", "SDKS", "Sdk"]

#: What is asked in each call, and what the upstream answers. The second is not ASCII, so that a wrong charset is seen.
ASKED, SAID = "How are you?", "Très bien."


@dataclass(frozen=True, kw_only=True)
class Sdk:
    """A client package, and one call of it that changes something.

    Attributes:
        package: the name by which it is imported.
        distribution: the name by which it is installed.
        endpoint: path of the call behind the base URL.
        client: makes a client for a base URL. Its own retries are as they come, where ``obeys`` says that they are stopped.
        call: makes the call.
        async_client: makes an asynchronous client; None where the package has none that stands on a library that is seen.
        async_call: makes the call with it, and returns an awaitable. None: ``call`` does.
        raw: makes the call with ``with_raw_response`` or the like; returns a header of it, and the typed result. None: there
            is no such way.
        text: reads :data:`SAID` from the typed result.
        result: class of the typed result, without its module.
        answer: JSON of a success; ``limit``: JSON of a 429.
        error: class of its error for a 429; ``lost``: of its error when no response came; "" where the HTTP library's leaves it.
        status: reads the status from ``error``.
        obeys: its own retries obey ``x-should-retry``. Where they do not, the client is made without retries; but stripe does not
            retry a 429, and obeys a header of its own.
    """

    package: str
    distribution: str
    endpoint: str
    client: Callable[[str], Any]
    call: Callable[[Any], Any]
    async_client: Callable[[str], Any] | None = None
    async_call: Callable[[Any], Any] | None = None
    raw: Callable[[Any], tuple[str, Any]] | None = None
    text: Callable[[Any], str]
    result: str
    answer: Mapping[str, Any]
    limit: Mapping[str, Any]
    error: str
    lost: str = ""
    status: Callable[[Any], int] = lambda error: int(error.status_code)
    obeys: bool = False

    def success(self) -> Answer:
        headers = {"Content-Type": "application/json; charset=utf-8", "x-request-id": "req_1"}
        return Answer(200, json.dumps(self.answer, ensure_ascii=False), headers)

    def limited(self, status: int = 429, wait: Mapping[str, str] | str = "8") -> Answer:
        """A failed response with the body of a 429. It asks to wait so many seconds, or with other headers than Retry-After."""
        headers = {"Retry-After": wait} if isinstance(wait, str) else wait
        return Answer(status, json.dumps(self.limit), {"Content-Type": "application/json", **headers})


def _chat(client: Any, model: str = "m-1", **more: Any) -> Any:
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": ASKED}], **more)


def _raw_chat(client: Any) -> tuple[str, Any]:
    raw = _chat(client.with_raw_response)
    return raw.headers["x-request-id"], raw.parse()


def _first_choice(result: Any) -> str:
    return str(result.choices[0].message.content)


_COMPLETION = {
    "id": "cmpl_1",
    "object": "chat.completion",
    "created": 1,
    "model": "m-1",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": SAID}}],
    "usage": {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6},
}
_OPENAI_LIMIT = {"error": {"message": "slow down", "type": "requests", "param": None, "code": "rate_limit_exceeded"}}


def _openai(base: str) -> Any:
    return import_module("openai").OpenAI(api_key="sk-1", base_url=base)


def _async(module: str, name: str, **arguments: Any) -> Callable[[str], Any]:
    def client(base: str) -> Any:
        return getattr(import_module(module), name)(api_key="sk-1", base_url=base, **arguments)

    return client


def _groq(base: str) -> Any:
    return import_module("groq").Groq(api_key="gsk-1", base_url=base)


def _anthropic(base: str) -> Any:
    return import_module("anthropic").Anthropic(api_key="sk-ant-1", base_url=base)


def _message(client: Any) -> Any:
    return client.messages.create(model="m-1", max_tokens=16, messages=[{"role": "user", "content": ASKED}])


def _raw_message(client: Any) -> tuple[str, Any]:
    raw = _message(client.with_raw_response)
    return raw.headers["x-request-id"], raw.parse()


def _mistral(base: str) -> Any:
    return import_module("mistralai.client").Mistral(api_key="m-1", server_url=base)


def _cohere(base: str) -> Any:
    return import_module("cohere").ClientV2(api_key="co-1", base_url=base, max_retries=0)


def _cohere_chat(client: Any) -> Any:
    return client.chat(model="m-1", messages=[{"role": "user", "content": ASKED}])


def _raw_cohere_chat(client: Any) -> tuple[str, Any]:
    raw = client.with_raw_response.chat(model="m-1", messages=[{"role": "user", "content": ASKED}])
    return raw.headers["x-request-id"], raw.data


def _stripe(base: str) -> Any:
    return import_module("stripe").StripeClient("sk_test_1", base_addresses={"api": base}, max_network_retries=2)


def _async_stripe(base: str) -> Any:
    stripe = import_module("stripe")
    return stripe.StripeClient(
        "sk_test_1", base_addresses={"api": base}, max_network_retries=2, http_client=stripe.HTTPXClient()
    )


def _github(base: str) -> Any:
    github = import_module("github")
    return github.Github(auth=github.Auth.Token("ghp-1"), base_url=base, retry=None)


def _twilio(base: str) -> Any:
    client = import_module("twilio.rest").Client("AC1", "secret")
    client.api.base_url = base
    return client


_OPENAI = Sdk(
    package="openai",
    distribution="openai",
    endpoint="/chat/completions",
    client=_openai,
    async_client=_async("openai", "AsyncOpenAI"),
    call=_chat,
    raw=_raw_chat,
    text=_first_choice,
    result="ChatCompletion",
    answer=_COMPLETION,
    limit=_OPENAI_LIMIT,
    error="RateLimitError",
    lost="APIConnectionError",
    obeys=True,
)

SDKS = {
    sdk.package: sdk
    for sdk in (
        _OPENAI,
        Sdk(
            package="anthropic",
            distribution="anthropic",
            endpoint="/v1/messages",
            client=_anthropic,
            async_client=_async("anthropic", "AsyncAnthropic"),
            call=_message,
            raw=_raw_message,
            text=lambda result: str(result.content[0].text),
            result="Message",
            answer={
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "m-1",
                "content": [{"type": "text", "text": SAID}],
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "usage": {"input_tokens": 4, "output_tokens": 2},
            },
            limit={"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}},
            error="RateLimitError",
            lost="APIConnectionError",
            obeys=True,
        ),
        replace(  # the same interface
            _OPENAI,
            package="groq",
            distribution="groq",
            endpoint="/openai/v1/chat/completions",
            client=_groq,
            async_client=_async("groq", "AsyncGroq"),
        ),
        Sdk(
            package="mistralai",
            distribution="mistralai",
            endpoint="/v1/chat/completions",
            client=_mistral,
            async_client=_mistral,
            async_call=lambda client: client.chat.complete_async(
                model="m-1", messages=[{"role": "user", "content": ASKED}]
            ),
            call=lambda client: client.chat.complete(model="m-1", messages=[{"role": "user", "content": ASKED}]),
            text=_first_choice,
            result="ChatCompletionResponse",
            answer=_COMPLETION,
            limit={"object": "error", "message": "slow down", "type": "rate_limited", "code": "1300"},
            error="SDKError",
        ),
        Sdk(
            package="cohere",
            distribution="cohere",
            endpoint="/v2/chat",
            client=_cohere,
            async_client=_async("cohere", "AsyncClientV2", max_retries=0),
            call=_cohere_chat,
            raw=_raw_cohere_chat,
            text=lambda result: str(result.message.content[0].text),
            result="V2ChatResponse",
            answer={
                "id": "c_1",
                "finish_reason": "COMPLETE",
                "message": {"role": "assistant", "content": [{"type": "text", "text": SAID}]},
            },
            limit={"message": "slow down"},
            error="TooManyRequestsError",
        ),
        Sdk(
            package="stripe",
            distribution="stripe",
            endpoint="/v1/customers",
            client=_stripe,
            async_client=_async_stripe,
            async_call=lambda client: client.v1.customers.create_async({"description": ASKED}),
            call=lambda client: client.v1.customers.create({"description": ASKED}),
            text=lambda result: str(result.description),
            result="Customer",
            answer={"id": "cus_1", "object": "customer", "description": SAID},
            limit={"error": {"type": "invalid_request_error", "code": "rate_limit", "message": "slow down"}},
            error="RateLimitError",
            lost="APIConnectionError",
            status=lambda error: int(error.http_status),
        ),
        Sdk(
            package="github",
            distribution="PyGithub",
            endpoint="/user/repos",
            client=_github,
            call=lambda client: client.get_user().create_repo("r", description=ASKED),
            text=lambda result: str(result.description),
            result="Repository",
            answer={"id": 1, "name": "r", "description": SAID, "url": "/repos/ann/r"},
            limit={"message": "slow down", "documentation_url": "https://docs.example.com"},
            error="GithubException",
            status=lambda error: int(error.status),
        ),
        Sdk(
            package="twilio",
            distribution="twilio",
            endpoint="/2010-04-01/Accounts/AC1/Messages.json",
            client=_twilio,
            call=lambda client: client.messages.create(to="+15550001", from_="+15550002", body=ASKED),
            text=lambda result: str(result.body),
            result="MessageInstance",
            answer={"sid": "SM1", "body": SAID, "status": "queued"},
            limit={"code": 20429, "message": "slow down", "more_info": "https://www.example.com", "status": 429},
            error="TwilioRestException",
            status=lambda error: int(error.status),
        ),
    )
}
