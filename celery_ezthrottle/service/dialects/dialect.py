"""What every dialect has: how the service is called, how its answers are read, and what of a job it can express. No I/O."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar
from urllib.parse import quote

from celery_ezthrottle.errors import InvalidJob
from celery_ezthrottle.service.account import Account
from celery_ezthrottle.service.job import Job
from celery_ezthrottle.service.read_answer import read_job, read_state
from celery_ezthrottle.service.service_answer import JobState, ServiceAnswer, Submitted
from celery_ezthrottle.service.words import JOB, QUESTION, Words

__all__ = ["JOB_FIELDS", "Dialect", "ServiceRequest"]

#: The fields of a job, without ``trigger``, which belongs to the job that has the fallback.
JOB_FIELDS = frozenset(spec.name for spec in fields(Job) if spec.init) - {"trigger"}


@dataclass(frozen=True)
class ServiceRequest:
    """One HTTP request to the service.

    Attributes:
        party: names its receiver in error texts, with the setting that holds the URL.
        words: how error texts speak of it.
    """

    party: str
    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: str | None = field(default=None, repr=False)
    words: Words = JOB


class Dialect(ABC):
    """A form in which the service is called. An instance speaks for one account.

    Raises:
        ConfigurationError: a value of the account that this dialect needs is not usable. The text names the setting.
    """

    #: As in the setting ``ezthrottle_dialect``.
    name: ClassVar[str]
    #: The fields of a job that it can express. The others must have their default value.
    job_fields: ClassVar[frozenset[str]] = JOB_FIELDS
    #: Whether the service tells the state of a job by its id.
    can_look_up: ClassVar[bool] = False
    #: Path of the service's jobs.
    jobs_path: ClassVar[str] = "/api/v1/jobs"
    #: Path of the account's webhook secrets; "" = the service has none.
    secrets_path: ClassVar[str] = "/api/v1/webhook-secrets"

    def __init__(self, account: Account) -> None:
        self.account = account

    @abstractmethod
    def request(
        self, method: str, path: str, content: Mapping[str, Any] | None = None, *, words: Words = JOB
    ) -> ServiceRequest:
        """Return the HTTP request that makes a call of the service's API.

        Args:
            content: the JSON object of the call, or None.
            words: how error texts speak of the call.
        """

    def unwrap(self, answer: ServiceAnswer) -> ServiceAnswer:
        """Return the service's own answer of what came back.

        Raises:
            ServiceUnavailable, SubmitRefused: what came back is of another party, which did not let the call through.
        """
        return answer

    @classmethod
    def obstacles(cls, job: Job) -> Iterator[str]:
        """Yield what of ``job`` this dialect cannot express: names of fields, or other words for an error text."""
        plain = job.to_wire()
        yield from (name for name in plain if name in JOB_FIELDS - cls.job_fields)

    @classmethod
    def check(cls, job: Job) -> None:
        """Check that this dialect can express ``job``.

        Raises:
            InvalidJob: it cannot. The text names the fields.
        """
        if obstacles := list(cls.obstacles(job)):
            raise InvalidJob(
                f"The dialect {cls.name!r} (ezthrottle_dialect) cannot express {', '.join(obstacles)}: leave "
                f"{'them' if len(obstacles) > 1 else 'it'} out, or use another dialect."
            )

    # Jobs

    def submission(self, job: Job) -> ServiceRequest:
        """Return the HTTP request that submits ``job``."""
        return self.request("POST", self.jobs_path, job.to_wire())

    def read_submission(self, answer: ServiceAnswer) -> Submitted:
        """Read the answer to a submission.

        Raises:
            SubmitRefused: the job was refused permanently.
            ServiceUnavailable: the job was not taken now, or nobody can tell.
        """
        return read_job(self.unwrap(answer))

    def look_up(self, job_id: str) -> ServiceRequest:
        """Return the HTTP request that asks for the state of a job. Only of a dialect that ``can_look_up``."""
        return self.request("GET", f"{self.jobs_path}/{quote(job_id, safe='')}", words=QUESTION)

    def read_look_up(self, answer: ServiceAnswer) -> JobState | None:
        """Read the answer to a look-up; None when the service does not have the job (any more).

        Raises:
            SubmitRefused, ServiceUnavailable: the service did not tell.
        """
        return read_state(self.unwrap(answer))
