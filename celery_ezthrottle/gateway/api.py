"""What clients can ask for, whichever front door they come through: jobs, webhook secrets and regions."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

from celery_ezthrottle._common.failpoints import reach
from celery_ezthrottle.errors import InvalidJob
from celery_ezthrottle.service.job import Job

from .database import Database, KeyTaken
from .dispatcher import Dispatcher
from .pacing import host_of
from .refused import Refused
from .regions import Regions
from .rows import Submission, submission_of
from .webhook_secrets import WebhookSecrets
from .workflow import nested_in

__all__ = ["PREFIX", "Answer", "Api", "read_json"]

logger = logging.getLogger(__name__)

PREFIX = "/api/v1/"

#: An HTTP status and a JSON body.
Answer = tuple[int, dict[str, Any]]


class Api:
    """Answers requests whose sender is authenticated already."""

    def __init__(
        self, database: Database, dispatcher: Dispatcher, webhook_secrets: WebhookSecrets, regions: Regions
    ) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._secrets = webhook_secrets
        self._regions = regions
        self._routes: list[tuple[str, dict[str, Callable[[str, str | bytes], Awaitable[Answer]]]]] = [
            (r"jobs", {"POST": self._submit}),
            (r"jobs/([^/]+)", {"GET": self._job}),
            (r"webhook-secrets", {"GET": self._show, "POST": self._set, "DELETE": self._delete}),
            (r"regions", {"GET": self._list_regions}),
            (r"regions/([^/]+)", {"PUT": self._set_region}),
        ]

    async def answer(self, method: str, path: str, body: str | bytes) -> Answer:
        """Answer a request.

        Args:
            path: decoded, and beginning with ``PREFIX``.

        Raises:
            Refused: the request is wrong; 404 and 405 also for a path or a method that is not known.
        """
        for pattern, methods in self._routes:
            if found := re.fullmatch(re.escape(PREFIX) + pattern, path):
                if method not in methods:
                    raise Refused(405, f"This path takes only {', '.join(methods)}.")
                return await methods[method]("".join(found.groups()), body)
        raise Refused(
            404, f"There is no such path: {PREFIX}jobs, {PREFIX}webhook-secrets and {PREFIX}regions are known."
        )

    async def _submit(self, _name: str, body: str | bytes) -> Answer:
        """Store a job and queue it: 201 for a new job, 200 for a job that is known already."""
        new = self._read_job(read_json(body))
        host = host_of(new.job.url)
        try:
            added = await asyncio.to_thread(self._database.add, new)
        except KeyTaken:
            raise Refused(
                409, "Another request is stored under this idempotent_key: give each request a key of its own."
            ) from None
        if not added.is_new:
            logger.info("%s was submitted again (%s to %s).", added.job_id, new.job.method, host)
            self._dispatcher.apply(added.effects)
            return 200, {"job_id": added.job_id, "status": "duplicate", "duplicate": True}
        logger.info("%s is accepted: %s to %s.", added.job_id, new.job.method, host)
        reach("gateway.taken")
        self._dispatcher.apply(added.effects)
        return 201, {"job_id": added.job_id, "status": "racing" if added.is_race else "queued"}

    def _read_job(self, data: Any) -> Submission:
        try:
            job = Job.from_wire(data)
            for place, nested in nested_in(job):
                self._check(f"{place}." if place else "", nested)
            return submission_of(job)
        except InvalidJob as exc:
            raise Refused(400, str(exc)) from None
        except UnicodeError:
            raise Refused(400, "The job has text that is not Unicode: a lone surrogate.") from None

    def _check(self, place: str, job: Job) -> None:
        try:
            host_of(job.url)
        except ValueError:
            raise Refused(400, f"{place}url must be an http:// or https:// URL with a host and a valid port.") from None
        unknown = [name for name in job.regions if name not in self._regions.names]
        if unknown and job.region_policy == "strict":
            known = ", ".join(self._regions.names)
            raise Refused(
                400, f"{place}regions names {unknown[0][:40]!r}, and region_policy is strict: this gateway has {known}."
            )

    async def _job(self, name: str, _body: str | bytes) -> Answer:
        state = await asyncio.to_thread(self._database.state, name)
        if state is None:
            raise Refused(404, "There is no such job, or it ended more than 7 days ago.")
        is_queued = state.status == "queued"
        shown: dict[str, Any] = {
            "job_id": state.job_id,
            "status": "in_flight" if is_queued and self._dispatcher.is_in_flight(state.job_id) else state.status,
            "url": state.url,
            "method": state.method,
            "created_at": int(state.created_at * 1000),
        }
        if state.quorum.needed:
            quorum = {"needed": state.quorum.needed, "delivered": state.quorum.delivered}
            shown["webhook_quorum"] = {**quorum, "state": state.quorum.state(finished=not is_queued)}
        if state.children:
            shown["spawned"] = [{"place": place, "job_id": job_id} for place, job_id in state.children]
        return 200, shown

    async def _show(self, _name: str, _body: str | bytes) -> Answer:
        return 200, await self._secrets.show()

    async def _set(self, _name: str, body: str | bytes) -> Answer:
        return 200, await self._secrets.set(read_json(body))

    async def _delete(self, _name: str, _body: str | bytes) -> Answer:
        return 200, await self._secrets.delete()

    async def _list_regions(self, _name: str, _body: str | bytes) -> Answer:
        return 200, {"regions": [self._shown(name) for name in self._regions.names]}

    async def _set_region(self, name: str, body: str | bytes) -> Answer:
        if name not in self._regions.names:
            raise Refused(404, f"There is no such region: this gateway has {', '.join(self._regions.names)}.")
        data = read_json(body)
        status = data.get("status") if isinstance(data, dict) else None
        if status not in {"up", "down"}:
            raise Refused(400, 'The body must be {"status": "up"} or {"status": "down"}.')
        await asyncio.to_thread(self._database.set_region, name, down=status == "down")
        self._regions.set(name, down=status == "down")
        logger.info("The region %s is put %s.", name, status)
        self._dispatcher.release()
        return 200, self._shown(name)

    def _shown(self, name: str) -> dict[str, str]:
        return {"name": name, "status": "up" if name in self._regions.up else "down"}


def read_json(text: str | bytes) -> Any:
    """Read JSON.

    Raises:
        Refused: 400, because it is not JSON.
    """
    try:
        return json.loads(text, parse_constant=_not_json)
    except (ValueError, RecursionError):
        raise Refused(400, "The body is not JSON.") from None


def _not_json(constant: str) -> None:
    raise ValueError(constant)  # Python's parser accepts NaN and Infinity, which are not JSON
