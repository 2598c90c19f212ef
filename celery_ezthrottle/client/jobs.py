"""The methods of the client that submit jobs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from celery._state import get_current_app

from celery_ezthrottle._common.body_text import body_text
from celery_ezthrottle.continuations import job_result
from celery_ezthrottle.continuations.build_job import webhook_url as url_of_watch
from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.continuations.watches import new_watch
from celery_ezthrottle.errors import ConfigurationError, ResultTimeout, ServiceUnavailable
from celery_ezthrottle.service.client import ServiceClient
from celery_ezthrottle.service.job import Job
from celery_ezthrottle.settings.validate import receiver_problems, report

from .submitting import submit
from .waiting import wait_for_result

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["Jobs"]


class Jobs:
    """A part of :class:`.ezthrottle.EZThrottle`."""

    _service: ServiceClient
    _app: Celery | None

    def submit_job(
        self,
        url: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: str | bytes | None = None,
        metadata: Mapping[str, Any] | None = None,
        webhooks: Sequence[Mapping[str, Any]] | None = None,
        webhook_quorum: int = 1,
        regions: Sequence[str] | None = None,
        region_policy: str = "fallback",
        execution_mode: str = "race",
        retry_policy: Mapping[str, Any] | None = None,
        fallback_job: Mapping[str, Any] | None = None,
        on_success: Mapping[str, Any] | None = None,
        on_failure: Mapping[str, Any] | None = None,
        on_failure_timeout_ms: int | None = None,
        idempotent_key: str | None = None,
        retry_at: int | None = None,
    ) -> dict[str, Any]:
        """Submit a job. The arguments are the fields of :class:`celery_ezthrottle.service.job.Job`; they are not changed.

        While the service is unreachable or failing, it is tried three times, within 15 s. A job without an idempotency key is
        not tried again if it may have been taken.

        Args:
            body: text, or bytes that are UTF-8.

        Returns:
            The JSON object of the service's answer: ``job_id``, ``status`` (such as "queued") and what else it says.

        Raises:
            InvalidJob: a field is wrong, or the dialect cannot express it. Nothing was sent.
            AuthenticationError: the API key is wrong.
            SubmitRefused: the job was refused permanently. Nothing was submitted.
            QuotaExceededError: the account is over its quota: see ``retry_at``.
            ServiceUnavailable: the job was not taken now, or nobody can tell: see ``maybe_accepted``.
        """
        fields: dict[str, Any] = {
            "url": url,
            "method": method,
            "headers": headers or {},
            "body": body_text(body),
            "metadata": metadata or {},
            "webhooks": list(webhooks or ()),
            "webhook_quorum": webhook_quorum,
            "regions": list(regions or ()),
            "region_policy": region_policy,
            "execution_mode": execution_mode,
            "retry_policy": retry_policy,
            "fallback_job": fallback_job or None,
            "on_success": on_success or None,
            "on_failure": on_failure or None,
            "on_failure_timeout_ms": on_failure_timeout_ms,
            "idempotent_key": idempotent_key or None,
            "retry_at": retry_at,
        }
        return dict(submit(self._service, Job(**fields)).answer)

    def queue_request(
        self,
        url: str,
        webhook_url: str | None = None,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: str | bytes | None = None,
        metadata: Mapping[str, Any] | None = None,
        retry_at: int | None = None,
    ) -> dict[str, Any]:
        """Deprecated: use :meth:`submit_job`, whose ``webhooks`` may be several."""
        warnings.warn("queue_request() is deprecated: use submit_job().", DeprecationWarning, stacklevel=2)
        webhooks = [{"url": webhook_url}] if webhook_url else []
        return self.submit_job(url, method, headers, body, metadata, webhooks, retry_at=retry_at)

    def queue_and_wait(
        self,
        url: str,
        webhook_url: str | None = None,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: str | bytes | None = None,
        timeout: float = 300,
        poll_interval: float = 2,
        metadata: Mapping[str, Any] | None = None,
        retry_at: int | None = None,
        *,
        idempotent_key: str | None = None,
    ) -> dict[str, Any]:
        """Submit a job, and wait until the receiver has its webhook. Do not call it in a task: the task would hold its slot.

        Args:
            webhook_url: another URL to which the service sends the result, or None.
            timeout: how many seconds to wait for the webhook.
            poll_interval: most seconds between two looks at the store. The first ones follow faster.

        Returns:
            What the webhook says: ``job_id``; ``status``, such as "success" or "failed"; ``response``, None or a dict with
            ``status_code``, ``headers`` and ``body``; ``error``, None or the service's reason.

        Raises:
            ResultTimeout: the webhook did not come in time. The job goes on.
            OutcomeUnknown: the webhook came, and its response could not be kept.
            StoreError: the store is out of reach.
            ConfigurationError: the app has no receiver, store or webhook secret. Nothing was sent.

        It also raises what :meth:`submit_job` raises.
        """
        continuations = Continuations.of(self._app or get_current_app())
        if problems := receiver_problems(continuations.settings):
            raise ConfigurationError(report(problems))
        watch = new_watch()
        webhooks = [{"url": webhook_url}] if webhook_url else []
        webhooks.append({"url": url_of_watch(continuations.settings, watch)})
        answer = self.submit_job(
            url, method, headers, body, metadata, webhooks, retry_at=retry_at, idempotent_key=idempotent_key
        )
        job_id = str(answer["job_id"])
        # Where others have submitted the same job before, the service may send its result only to them.
        result = wait_for_result(continuations.store, (watch, job_id), timeout=timeout, interval=poll_interval)
        if result is None:
            raise ResultTimeout(
                f"The webhook of job {job_id} did not come within {timeout:g} s. The job goes on: look it up at the service, and "
                "see that the service reaches the receiver at ezthrottle_webhook_url.",
                job_id,
            )
        return job_result.payload_of(result)

    def forward_or_fallback(
        self,
        fallback: Callable[[], Any],
        url: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: str | bytes | None = None,
        **kwargs: Any,
    ) -> Any:
        """Submit a job; if EZThrottle cannot be reached, return what ``fallback()`` returns.

        The fallback is only called when the service has certainly not got the job. An error that leaves this open is raised, and
        so is any answer of the service.

        Args:
            kwargs: other arguments of :meth:`submit_job`.

        Raises:
            ServiceUnavailable: the service may have taken the job (``maybe_accepted``), or has answered.

        It also raises what :meth:`submit_job` and ``fallback`` raise.
        """
        try:
            return self.submit_job(url, method, headers, body, **kwargs)
        except ServiceUnavailable as exc:
            if exc.maybe_accepted or exc.status_code is not None:
                raise
        return fallback()
