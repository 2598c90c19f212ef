"""The adapter of ``httpx`` and of ``httpx2``, which continues it: the same interface with classes of its own.

With the modules ``httpx_…`` beside it, it is everything that the package knows about these libraries. One instance serves one of
the two. Neither is imported here: it is given once the user's code has imported it.

Redirects, authentication and hooks of a call that is sent are part of it. What they send for a call that is answered are new
calls.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import ModuleType
from typing import Any

from . import httpx_responses
from .call import Call, Source
from .httpx_transports import Answer, Hop, how_it_connects, passing, redirect_of
from .library import SentRequest
from .stored_answer import StoredError, StoredResponse

__all__ = ["Httpx"]

#: Variables of the environment that name a CA bundle.
_BUNDLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


class Httpx:
    """Implements :class:`~celery_ezthrottle.http.library.Library` for one module.

    Args:
        module: ``httpx`` or ``httpx2``.
    """

    def __init__(self, module: ModuleType) -> None:
        self.name = module.__name__
        self.module: Any = module
        #: ``send`` of the module's two client classes, as the library has it.
        self.send: Any = module.Client.send
        self.send_async: Any = module.AsyncClient.send
        self._not_again = (module.PoolTimeout, module.ProxyError, module.UnsupportedProtocol, module.LocalProtocolError)

    def read_request(self, request: Any, *, with_headers: bool = True, max_form: int = 0) -> SentRequest:
        content, streamed = self._content(request, max_form)
        headers = httpx_responses.joined(request.headers) if with_headers else {}
        return SentRequest(request.method, str(request.url), headers, content or None, streamed)

    def _content(self, request: Any, max_form: int) -> tuple[bytes | None, bool]:
        """Return the content of a request, and whether it is a stream, which can be read only once."""
        try:
            return request.content, False
        except self.module.RequestNotRead:
            pass
        if isinstance(request.stream, self.module.ByteStream):  # of a request that a redirect has made
            return request.read(), False
        size = request.headers.get("Content-Length", "")
        is_form = request.headers.get("Content-Type", "").startswith("multipart/")
        if (
            is_form
            and isinstance(request.stream, self.module.SyncByteStream)
            and size.isdecimal()
            and int(size) <= max_form
        ):
            return request.read(), False  # it has put the content in the place of the stream
        return None, True

    def conditions(self, call: Call) -> tuple[SentRequest, tuple[str, ...]] | None:
        client, arguments = call.arguments["owner"], call.arguments
        connects, request = self._connects(call), call.request
        verify = connects.get("verify", True)
        # A context may hold a client certificate, and does not tell.
        has_certificate = connects.get("cert") or isinstance(verify, ssl.SSLContext)
        if has_certificate or client.event_hooks["request"] or not self._is_of_library(client, request):
            return None  # a hook, or a transport that is not of the library, may add anything
        auth = client._build_request_auth(request, arguments.get("auth", self.module.USE_CLIENT_DEFAULT))
        if type(auth) in {self.module.BasicAuth, self.module.NetRCAuth}:
            request = next(auth.auth_flow(self.with_header(request, "Authorization", "")))
        elif type(auth) is not self.module.Auth:
            return None
        redirects = arguments.get("follow_redirects", client.follow_redirects)
        if not isinstance(redirects, bool):
            redirects = client.follow_redirects
        way = (verify, connects.get("proxy"), connects.get("uds"))
        return self.read_request(request), (f"{redirects}", *map(str, way))

    def _is_of_library(self, client: Any, request: Any) -> bool:
        transport = type(client._transport_for_url(request.url))
        return transport in {self.module.HTTPTransport, self.module.AsyncHTTPTransport}

    def with_header(self, request: Any, name: str, value: str) -> Any:
        made = object.__new__(type(request))  # copy.copy() leaves the stream and the extensions out, as pickle does
        vars(made).update(vars(request))
        made.headers = request.headers.copy()
        made.headers[name] = value
        return made

    def last_request(self, call: Call) -> Any:
        request = httpx_responses.request_of(call.response if call.response is not None else call.error)
        return call.request if request is None else request

    def before_wire(self, call: Call, at_wire: Callable[[Any], None]) -> None:
        first = call.request

        def at_hop(request: Any) -> None:
            # The authentication may send other requests before this one.
            if (request.method, request.url) == (first.method, first.url):
                at_wire(request)

        call.arguments["hops"].at_hop = at_hop

    def response_of(self, call: Call, error: BaseException) -> Any | None:
        if isinstance(error, self.module.HTTPStatusError):
            return error.response
        its_own = (self.module.RequestError, self.module.InvalidURL, self.module.StreamError)
        if isinstance(error, its_own) or not isinstance(error, Exception):
            return None
        return call.arguments["hops"].failed_at()

    def is_part_of(self, call: Call) -> bool:
        last = call.last_request
        if last is call.request or (last.method, last.url) == (call.request.method, call.request.url):
            return True
        return last.url.copy_with(fragment=None) in self._redirected_to(call)

    def stop_retries(self, response: Any) -> None:
        httpx_responses.stop_retries(response)

    def is_own_retry(self, request: Any) -> bool:
        return httpx_responses.is_own_retry(request)

    def size(self, response: Any) -> int | None:
        try:
            return len(response.content)
        except self.module.ResponseNotRead:
            return None

    def text(self, response: Any) -> str:
        return "" if self.size(response) is None else str(response.text)

    def obstacle(self, call: Call) -> str | None:
        if not self.is_part_of(call):
            return (
                "what failed is another request, which its authentication has sent; its answer would be taken for that to the "
                "call"
            )
        connects = self._connects(call)
        verify = connects.get("verify", True)
        if connects.get("cert"):
            return "it uses a client certificate, which cannot be forwarded"
        if verify is False or (isinstance(verify, ssl.SSLContext) and verify.verify_mode == ssl.CERT_NONE):
            return "it does not verify the certificate (verify=False), which cannot be forwarded"
        if connects.get("proxy"):
            return "it goes through a proxy, which cannot be forwarded"
        if connects.get("uds"):
            return "it goes through a Unix domain socket, which cannot be forwarded"
        if connects.get("in_process"):
            return "it goes to an application in this process (ASGITransport, WSGITransport), which cannot be forwarded"
        return None

    def has_own_bundle(self, call: Call) -> bool:
        if call.last_request.url.scheme != "https":
            return False
        connects = self._connects(call)
        by_environment = connects.get("trust_env", True) and any(os.environ.get(name) for name in _BUNDLES)
        return connects.get("verify", True) is not True or bool(by_environment)

    def status_given_up_on(self, error: BaseException | None) -> int | None:  # noqa: ARG002
        return None  # its own retries are for connections only

    def is_network_error(self, error: BaseException | None) -> bool:
        return (
            isinstance(error, self.module.TransportError)
            and not isinstance(error, self._not_again)
            and not httpx_responses.is_tls_error(error)  # the next try would meet the same certificate
        )

    def certainly_not_sent(self, error: BaseException | None) -> bool:
        return isinstance(error, (self.module.ConnectError, self.module.ConnectTimeout, self.module.PoolTimeout))

    def store_response(self, response: Any) -> StoredResponse:
        return httpx_responses.store_response(response)

    def store_error(self, error: BaseException) -> StoredError | None:
        return httpx_responses.store_error(self.module, error)

    def build_error(self, stored: StoredError, request: Any) -> Exception:
        return httpx_responses.build_error(self.module, stored, request)

    def build_response(self, stored: StoredResponse, request: Any, owner: Any) -> Any:  # noqa: ARG002
        return httpx_responses.build_response(self.module, stored, request)

    def pass_on(self, call: Call, response: Any, owner: Any) -> Any:
        """The client gets the response where it would send a request, so the client's own code does everything else."""
        if isinstance(owner, Hop):
            return owner.answered(call.request, response)
        arguments = {name: value for name, value in call.arguments.items() if name not in {"owner", "hops"}}
        if call.source is not Source.SERVICE:
            arguments["auth"] = self.module.Auth()  # the answer that an earlier run got has gone through it there
        answer = Answer(self, owner, call, response)
        if isinstance(owner, self.module.AsyncClient):
            return self._pass_on_async(owner, call, answer, arguments)
        with passing(answer):
            return answer.passed_on(self.send(owner, call.request, **arguments))

    async def _pass_on_async(self, client: Any, call: Call, answer: Answer, arguments: dict[str, Any]) -> Any:
        with passing(answer):
            return answer.passed_on(await self.send_async(client, call.request, **arguments))

    def _connects(self, call: Call) -> Mapping[str, Any]:
        return how_it_connects(self.module, call.arguments["owner"], call.last_request.url)

    def _redirected_to(self, call: Call) -> Iterator[Any]:
        """Yield the URLs, without their fragments, to which the redirects of ``call`` have led."""
        history = call.response.history if call.response is not None else ()
        for url, location in (*call.arguments["hops"].redirects, *map(redirect_of, history)):
            with suppress(self.module.InvalidURL):  # the client has refused it, or has not followed it
                yield url.join(location).copy_with(fragment=None)
