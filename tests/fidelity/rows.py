"""The properties of a message, one row each. A new property is a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .tasks import call, probe

__all__ = ["ANYTHING", "ROWS", "Row"]


class Anything:
    """Equal to whatever is there, and not to nothing."""

    def __eq__(self, other: object) -> bool:
        return bool(other)

    def __hash__(self) -> int:
        return 0


ANYTHING = Anything()
SAME: Any = object()


@dataclass(frozen=True)
class Row:
    """A property.

    Attributes:
        name: what it is.
        where: the place of the fact that shows it, as of ``look_up``.
        first: what the first run, or its message, shows there.
        resumed: what the resumed one shows, by default the same.
        options: of ``apply_async``.
        task: with the property, if it is the task that has it.
        stored: whether results of the task are stored.
    """

    name: str
    where: str
    first: Any
    options: Mapping[str, Any] = field(default_factory=dict)
    task: Any = call
    resumed: Any = SAME
    stored: bool = True

    @property
    def then(self) -> Any:
        return self.first if self.resumed is SAME else self.resumed


TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
BINARY = {"pickle": "binary", "msgpack": "binary", "json": "utf-8", "yaml": "utf-8"}
TYPES = {
    "json": "application/json",
    "pickle": "application/x-python-serialize",
    "yaml": "application/x-yaml",
    "msgpack": "application/x-msgpack",
}
COMPRESSED = {
    "zlib": "application/x-gzip",
    "gzip": "application/x-gzip",
    "bzip2": "application/x-bz2",
    "lzma": "application/x-lzma",
}


def queues() -> list[Row]:
    def row(name: str, resumed: str, first: str | None, **options: Any) -> Row:
        return Row(name, "queue", first, options, resumed=resumed)

    return [
        # Celery itself publishes straight to the queue when that has a direct exchange.
        row("default queue", "fidelity", "fidelity"),
        row("named queue", "plain", "plain", queue="plain"),
        row("direct exchange", "keyed", None, exchange="x-keyed", routing_key="a-key"),
        row("topic exchange", "topic", None, queue="topic", routing_key="orders.eu.paris"),
    ]


def serializers() -> list[Row]:
    where = "wire.content_type"
    per_call = [Row(f"serializer {name}", where, kind, {"serializer": name}) for name, kind in TYPES.items()]
    per_task = [
        Row(f"serializer {name} of the task", where, kind, task=probe(f"in_{name}", serializer=name))
        for name, kind in TYPES.items()
    ]
    encodings = [
        Row(f"encoding of {name}", "wire.content_encoding", BINARY[name], {"serializer": name}) for name in TYPES
    ]
    return [*per_call, *per_task, *encodings]


def compressions() -> list[Row]:
    where = "wire.headers.compression"
    per_call = [Row(f"compression {name}", where, kind, {"compression": name}) for name, kind in COMPRESSED.items()]
    binary = Row("compressed pickle", where, COMPRESSED["zlib"], {"compression": "zlib", "serializer": "pickle"})
    compressed = probe("compressed", compression="bzip2")
    return [*per_call, binary, Row("compression of the task", where, COMPRESSED["bzip2"], task=compressed)]


def headers() -> list[Row]:
    def row(name: str, value: Any) -> Row:
        return Row(f"header {name}", f"wire.headers.{name}", value, {"headers": {name: value}})

    return [
        row("tenant", "blue"),
        row("traceparent", TRACEPARENT),
        row("baggage", "a=1,b=2"),
        row("attempt", 3),
        row("nested", {"a": [1, {"b": None}], "ü": "ß"}),
        Row("header as the body sees it", "run.headers.tenant", "blue", {"headers": {"tenant": "blue"}}),
        Row("header as an attribute", "run.traceparent", TRACEPARENT, {"headers": {"traceparent": TRACEPARENT}}),
    ]


def results() -> list[Row]:
    ignored = "run.ignore_result"
    started = probe("started", track_started=True)
    return [
        Row("result", ignored, False),
        Row("ignore_result per call", ignored, True, {"ignore_result": True}, stored=False),
        Row("ignore_result of the task", ignored, True, task=probe("ignores", ignore_result=True), stored=False),
        Row(
            "result wanted of a task that ignores",
            ignored,
            False,
            {"ignore_result": False},
            probe("i", ignore_result=True),
        ),
        Row("track_started", "run.state", "STARTED", task=started),
        Row("no track_started", "run.state", "PENDING", resumed="FORWARDED"),
        Row("reply_to", "wire.properties.reply_to", "my-replies", {"reply_to": "my-replies"}),
        Row("reply_to as the body sees it", "run.reply_to", "my-replies", {"reply_to": "my-replies"}),
    ]


ROWS = [
    *queues(),
    *serializers(),
    *compressions(),
    *headers(),
    *results(),
    Row("priority", "wire.properties.priority", 6, {"priority": 6, "queue": "prioritised"}),
    Row("priority 0", "wire.properties.priority", 0, {"priority": 0, "queue": "prioritised"}),
    Row("countdown", "wire.headers.eta", ANYTHING, {"countdown": 0.2}, resumed=None),
    Row("expires", "wire.headers.expires", ANYTHING, {"expires": 3600}, resumed=None),
    Row("eta in the run", "run.eta", ANYTHING, {"countdown": 0.2}),
    Row("expires in the run", "run.expires", ANYTHING, {"expires": 3600}),
    Row("expiration of the message", "wire.properties.expiration", "3600000", {"expires": 3600}, resumed=None),
    Row("shadow", "wire.headers.shadow", "another name", {"shadow": "another name"}),
    Row("origin", "wire.headers.origin", ANYTHING),
    Row("argsrepr", "wire.headers.argsrepr", "(***)", {"argsrepr": "(***)"}),
    Row("kwargsrepr", "wire.headers.kwargsrepr", "{token: ***}", {"kwargsrepr": "{token: ***}"}),
    Row("time limits", "wire.headers.timelimit", [50, 40], {"time_limit": 50, "soft_time_limit": 40}),
    Row("time limit in the run", "run.timelimit", [50, 40], {"time_limit": 50, "soft_time_limit": 40}),
    Row("rate_limit", "run.task", "fidelity.limited", task=probe("limited", rate_limit="100/s")),
    Row("acks_late", "run.task", "fidelity.late", task=probe("late", acks_late=True)),
    Row("retries", "wire.headers.retries", 2, {"retries": 2}),
    Row("delivery mode 1", "wire.properties.delivery_mode", 1, {"delivery_mode": 1}),
    Row("delivery mode 2", "wire.properties.delivery_mode", 2),
    Row("correlation id", "wire.properties.correlation_id", ANYTHING),
    Row("stamps", "run.stamps.customer", "c-17", {"stamped_headers": ["customer"], "customer": "c-17"}),
]
