"""``@frugal`` and ``EZThrottleTask``: what Celery still sees of the task, and which options hold for it."""

from __future__ import annotations

import importlib
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from celery import Celery, Task, shared_task
from celery.exceptions import Retry
from celery.local import PromiseProxy, Proxy
from pydantic import BaseModel

from celery_ezthrottle import ConfigurationError, EZThrottleTask, frugal
from celery_ezthrottle.http.recorder import current
from celery_ezthrottle.settings.options import OPTION_NAMES, Options
from celery_ezthrottle.tasks.adopt import adopt
from celery_ezthrottle.tasks.decorator import given_to, is_frugal
from celery_ezthrottle.tasks.handoff import HANDOFF

#: Untyped, and private: what Celery shares between the apps of a process.
_state: Any = importlib.import_module("celery._state")
CELERY_OPTIONS = {"autoretry_for", "bind", "default_retry_delay", "name", "pydantic"}
_names = itertools.count()


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """An app of which nothing is left for other apps: Celery shares tasks between those of a process."""
    monkeypatch.setattr(_state, "_on_app_finalizers", set())
    monkeypatch.setattr(_state._tls, "current_app", None)
    made: Celery = Celery(f"frugal{next(_names)}", broker="memory://", backend="cache+memory://", set_as_current=False)
    try:
        yield made
    finally:
        made.close()


def add(x: int, y: int = 1) -> int:
    """Add."""
    return x + y


def register(app: Celery, how: str, function: Callable[..., Any], **options: Any) -> Any:
    """A task made in one of the ways that people write."""
    celery_options = {name: options.pop(name) for name in CELERY_OPTIONS & options.keys()}
    if how == "task_cls":
        cast("Any", app).task_cls = "celery_ezthrottle:EZThrottleTask"  # as Celery(task_cls=...) does
    if how == "decorator":
        task: Any = app.task(**celery_options)(frugal(**options)(function))
    else:
        base = {"base": EZThrottleTask} if how == "base" else {}
        task = app.task(**base, **celery_options, **options)(function)
    return task._get_current_object()


WAYS = pytest.mark.parametrize("how", ["decorator", "base", "task_cls"])


# The order of the decorators


def is_lazy(task: Any) -> bool:
    return type(task) is PromiseProxy and not PromiseProxy.__evaluated__(task)


def is_finalized(app: Any) -> bool:
    return bool(app.finalized)


@pytest.mark.parametrize("options", [{}, {"bind": True}])
def test_above_app_task_is_a_type_error_that_leaves_the_task_lazy(app: Celery, options: dict[str, Any]) -> None:
    task: Any = app.task(**options)(add)
    assert is_lazy(task)
    for decorate in (frugal, frugal(forward_on={429})):
        with pytest.raises(TypeError, match=r"@frugal is above @app\.task; swap them"):
            decorate(task)
    assert is_lazy(task)
    assert not is_finalized(app)


def test_above_an_evaluated_task_is_the_same_error(app: Celery) -> None:
    task: Any = app.task(add)
    assert task(1) == 2
    app.finalize()
    for given in (task, app.task(name="other")(add), task._get_current_object()):
        with pytest.raises(TypeError, match="swap them"):
            frugal(given)


def test_above_shared_task_is_a_type_error_that_leaves_the_proxy_alone(app: Celery) -> None:
    def explode() -> None:
        raise AssertionError("the proxy was looked into")

    with pytest.raises(TypeError, match="swap them"):
        frugal(cast("Any", Proxy(explode)))
    app.set_current()
    with pytest.raises(TypeError, match="swap them"):
        frugal(cast("Any", shared_task(name=f"shared{next(_names)}")(add)))
    assert not is_finalized(app)


def test_below_shared_task_is_right(app: Celery) -> None:
    name = f"shared{next(_names)}"
    shared: Any = shared_task(name=name)(frugal(forward_on={503})(add))
    app.set_current()
    assert shared(1) == 2
    assert given_to(app.tasks[name]) == {"forward_on": {503}}


def test_on_something_else_is_a_type_error() -> None:
    class Plain:
        pass

    async def later() -> None:
        pass

    for thing, said in (
        (5, "goes on a function, not on int"),
        (staticmethod(add), "not on staticmethod"),
        (Plain, "derives from EZThrottleTask"),
        (later, "coroutine"),
    ):
        with pytest.raises(TypeError, match=said):
            frugal(cast("Any", thing))


def test_an_unknown_option_points_at_the_decorator() -> None:
    with pytest.raises(TypeError, match="unknown option 'retries'"):
        cast("Any", frugal)(retries=3)
    with pytest.raises(TypeError, match="takes from 0 to 1 positional"):
        cast("Any", frugal)(add, {429})


# What Celery and people see of the task


def test_the_function_is_still_a_function() -> None:
    for decorated in (frugal(add), frugal()(add), frugal(forward_on={429})(add)):
        assert decorated(2, y=3) == 5
        assert (decorated.__name__, decorated.__doc__, decorated.__module__) == ("add", "Add.", __name__)
        assert inspect.signature(decorated) == inspect.signature(add)


@WAYS
def test_delay_checks_the_arguments(app: Celery, how: str) -> None:
    task = register(app, how, add)
    for args, kwargs in (((), {}), ((1, 2, 3), {}), ((1,), {"z": 1}), ((1,), {"x": 1})):
        with pytest.raises(TypeError, match=r"add\(\)"):
            task.delay(*args, **kwargs)
    assert task.delay(1, y=2).id


@WAYS
def test_bind_gives_the_task(app: Celery, how: str) -> None:
    def who(self: Any, x: int) -> tuple[str, int]:
        return self.name, x

    task = register(app, how, who, bind=True, name="who")
    assert task.apply((7,)).get() == ("who", 7)
    assert task(7) == ("who", 7)
    with pytest.raises(TypeError, match=r"who\(\)"):
        task.delay()
    with pytest.raises(TypeError, match=r"who\(\)"):
        task.delay(7, 8)


class Order(BaseModel):
    id: int


class Receipt(BaseModel):
    order: int


@WAYS
def test_pydantic_models_are_made_and_dumped(app: Celery, how: str) -> None:
    def charge(order: Order) -> Receipt:
        assert isinstance(order, Order)
        return Receipt(order=order.id)

    # Celery evaluates annotations, which are strings here.
    charge.__annotations__ = {"order": Order, "return": Receipt}
    task = register(app, how, charge, pydantic=True)
    assert task.apply(({"id": "7"},)).get() == {"order": 7}


@WAYS
def test_autoretry_still_sees_what_leaves_the_body(app: Celery, how: str) -> None:
    runs: list[int] = []

    class Flaky(Exception):
        pass

    def body(x: int) -> int:
        runs.append(x)
        if len(runs) < 3:
            raise Flaky
        return x

    task = register(app, how, body, autoretry_for=(Flaky,), default_retry_delay=0)
    assert task.apply((7,)).get() == 7
    assert runs == [7, 7, 7]


def test_a_class_based_task_keeps_autoretry(app: Celery) -> None:
    runs: list[int] = []

    class Charge(EZThrottleTask):
        name = "charge"
        autoretry_for = (KeyError,)
        default_retry_delay = 0
        max_retries = 2

        def run(self, order_id: int) -> int:
            runs.append(self.request.retries)
            raise KeyError(order_id)

    task: Any = app.register_task(Charge())
    with pytest.raises(KeyError):
        task.apply((7,)).get()
    assert runs == [0, 1, 2]
    assert is_frugal(task)


def test_a_frugal_body_may_call_the_one_it_inherits(app: Celery) -> None:
    class Base(EZThrottleTask):
        def run(self, x: int) -> int:
            return x + 1

    class Derived(Base):
        name = "derived"

        def run(self, x: int) -> int:
            return super().run(x) * 10

    task: Any = app.register_task(Derived())
    assert task.apply((1,)).get() == 20


@WAYS
def test_a_frugal_task_is_known_as_one(app: Celery, how: str) -> None:
    assert is_frugal(register(app, how, add))
    assert is_frugal(register(app, how, add, name="again", forward_on={429}))


def test_a_plain_task_is_not_frugal(app: Celery) -> None:
    assert not is_frugal(app.task(add))
    assert not is_frugal(app.task(name="again", autoretry_for=(KeyError,))(add))


# Which options hold


@WAYS
@pytest.mark.parametrize("extra", [{}, {"autoretry_for": (KeyError,)}])
def test_the_options_of_a_task_are_found_whatever_celery_puts_around_it(
    app: Celery, how: str, extra: dict[str, Any]
) -> None:
    given: dict[str, Any] = {"forward_on": [429], "regions": ["iad"], "idempotency": "add-{x}"}
    assert given_to(register(app, how, add, **given, **extra)) == {
        "forward_on": {429},
        "regions": ("iad",),
        "idempotency": "add-{x}",
    }


@WAYS
@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"idempotency": "order-{order_id}"}, ConfigurationError, "names 'order_id', which is no parameter"),
        ({"idempotency": "order"}, ConfigurationError, "constant"),
        ({"forward_on": 429}, ConfigurationError, "forward_on must be"),
    ],
)
def test_a_bad_option_is_an_error_where_the_task_is_made(
    app: Celery, how: str, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        register(app, how, add, **options)


def test_a_bad_option_of_a_class_is_an_error_where_the_class_is_made() -> None:
    with pytest.raises(ConfigurationError, match="names 'nope'"):
        type("Charge", (EZThrottleTask,), {"idempotency": "{nope}", "run": lambda self, order_id: None})
    with pytest.raises(ConfigurationError, match="region_policy must be"):
        type("Abstract", (EZThrottleTask,), {"region_policy": "loose"})


def options_during_a_run(task: Any, *args: Any) -> Options:
    """The options that hold while a worker runs ``task``: its request carries what a worker's does."""
    seen: list[Options] = []

    def look() -> None:
        current()  # as a call does: the run of a task that makes none is not made
        seen.append(vars(task.request)["_ezthrottle_run"].options)

    task.look = look
    handoff = {"run": "r", "resume": None, "record": False, "order": 0, "redelivered": False, "message": object()}
    _state._task_stack.push(task)
    task.push_request(id="t", args=args, called_directly=False, is_eager=False, properties={HANDOFF: handoff})
    try:
        task.run(*args)
    finally:
        task.pop_request()
        _state._task_stack.pop()
    (options,) = seen
    return options


def look(self: Any) -> None:
    self.look()


@WAYS
def test_the_options_hold_in_a_run(app: Celery, how: str) -> None:
    app.conf.ezthrottle_regions = ["lax"]
    task = register(app, how, look, bind=True, forward_on={418})
    options = options_during_a_run(task)
    assert options.forward_on == {418}
    assert options.regions == ("lax",)
    assert options.forward_on_network_error == "safe"


def test_a_class_that_inherits_a_body_has_its_own_options(app: Celery) -> None:
    class Base(EZThrottleTask):
        name = "base"
        forward_on = frozenset({418})
        regions = ("iad",)

        def run(self) -> None:
            look(self)

    class Derived(Base):
        name = "derived"
        forward_on = frozenset({503})

    base, derived = app.register_task(Base()), app.register_task(Derived())
    assert options_during_a_run(base).forward_on == {418}
    assert options_during_a_run(derived).forward_on == {503}
    assert options_during_a_run(derived).regions == ("iad",)


def test_callables_are_options_and_no_methods(app: Celery) -> None:
    def never(request: object) -> bool:
        return False

    class Quiet(EZThrottleTask):
        name = "quiet"
        forward_if = never

        def run(self) -> None:
            look(self)

    task: Any = app.register_task(Quiet())
    assert options_during_a_run(task).forward_if is never
    assert given_to(task) == {"forward_if": never}


def test_an_app_of_plain_tasks_is_not_touched() -> None:
    assert not issubclass(Task, EZThrottleTask)
    assert not hasattr(Task, "forward_on")


# Adopted by a worker

RETRIES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "other positions": ((1,), {"y": 2}, {"args": (5,), "kwargs": {"y": 6}}),
    "positions for keywords": ((), {"x": 1, "y": 2}, {"args": (5, 6)}),
    "keywords for positions": ((1, 2), {}, {"kwargs": {"y": 6}}),
}


@WAYS
@pytest.mark.parametrize("bind", [True, False])
@pytest.mark.parametrize(
    "more", [{}, {"autoretry_for": (KeyError,)}, {"pydantic": True}], ids=["", "autoretry", "pydantic"]
)
def test_celery_sees_the_same_signature_of_an_adopted_task(app: Celery, how: str, bind: bool, more: Any) -> None:
    if bind:

        def body(self: Any, x: int, y: int = 1) -> int:
            return x + y
    else:

        def body(x: int, y: int = 1) -> int:  # type: ignore[misc]
            return x + y

    task = register(app, how, body, bind=bind, **more)
    stock = cast("Any", app).task(name="stock", base=Task, bind=bind, **more)(body)
    adopt(task)
    adopt(task)
    assert inspect.signature(task.run) == inspect.signature(stock.run)


@WAYS
@pytest.mark.parametrize("bind", [True, False])
@pytest.mark.parametrize("case", RETRIES)
def test_a_retry_of_an_adopted_task_binds_its_arguments_as_stock(
    app: Celery, how: str, bind: bool, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bind:

        def body(self: Any, x: int, y: int = 1) -> int:
            return x + y
    else:

        def body(x: int, y: int = 1) -> int:  # type: ignore[misc]
            return x + y

    args, kwargs, changed = RETRIES[case]
    sent = []
    for made in (cast("Any", app).task(name="stock", base=Task, bind=bind)(body), register(app, how, body, bind=bind)):
        task = made._get_current_object() if isinstance(made, Proxy) else made
        if is_frugal(task):
            adopt(task)
        monkeypatch.setattr(type(task), "apply_async", lambda *_, **__: None, raising=False)
        signatures: list[Any] = []
        kept = task.signature_from_request

        def note(*given: Any, kept: Any = kept, signatures: list[Any] = signatures, **named: Any) -> Any:
            signatures.append(kept(*given, **named))
            return signatures[-1]

        monkeypatch.setattr(task, "signature_from_request", note)
        task.push_request(id="t1", args=args, kwargs=kwargs, called_directly=False, retries=0, is_eager=False)
        try:
            with pytest.raises(Retry):
                Task.retry(task, **changed)
        finally:
            task.pop_request()
        sent.append((tuple(signatures[0].args), dict(signatures[0].kwargs)))
    stock, ours = sent
    assert ours == stock


def test_no_option_means_something_else_to_celery() -> None:
    """Celery's own attributes are class attributes too. A priority of None is one that was not set, to both."""
    assert {name for name in OPTION_NAMES if hasattr(Task, name)} == {"priority"}
    assert Task.priority is None
    assert Options().priority is None
