"""What the command leaves behind: nothing of a clean run, and of any other what its faults can be traced by."""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from . import __main__ as command
from .battle import Battle

ORDERS = ["--tasks", "1", "--minutes", "0"]
CLEAN = dict.fromkeys(command.FAULTS, 0)


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    """That of SIGTERM is the process' own again."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def end_with(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, int] | BaseException], None]:
    """No process is started: a run leaves a history, and ends so."""

    def end_with(end: dict[str, int] | BaseException) -> None:
        def fight(self: Battle) -> dict[str, Any]:
            (self._folder / "history").write_text("what happened")
            if isinstance(end, BaseException):
                raise end
            return end

        monkeypatch.setattr(Battle, "fight", fight)

    return end_with


def test_a_clean_run_leaves_nothing(temporary: Path, end_with: Any, capsys: pytest.CaptureFixture[str]) -> None:
    end_with(CLEAN)

    assert command.main(ORDERS) == 0

    assert list(temporary.iterdir()) == []
    assert capsys.readouterr() == (json.dumps(CLEAN) + "\n", "")


@pytest.mark.parametrize("fault", command.FAULTS)
def test_a_fault_can_be_traced(temporary: Path, end_with: Any, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    end_with({**CLEAN, fault: 1})

    assert command.main(ORDERS) == 1

    (history,) = temporary.glob("*/history")
    assert str(history.parent) in capsys.readouterr().err


@pytest.mark.parametrize("end", [AssertionError("waited in vain"), KeyboardInterrupt(), SystemExit(143)])
def test_a_run_that_fails_can_be_traced(
    temporary: Path, end_with: Any, end: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    end_with(end)

    with pytest.raises(type(end)):
        command.main(ORDERS)

    (history,) = temporary.glob("*/history")
    assert str(history.parent) in capsys.readouterr().err


def test_a_folder_that_was_asked_for_stays(temporary: Path, end_with: Any) -> None:
    end_with(CLEAN)

    assert command.main([*ORDERS, "--folder", str(temporary / "mine" / "here")]) == 0

    assert (temporary / "mine" / "here" / "history").exists()


@pytest.mark.parametrize(
    ("words", "limits"),
    [
        ([], False),
        (["--limits"], True),
        (["--route", "workers"], True),
        (["--route", "workers", "--no-limits"], False),
        (["--route", "workers", "--stock"], False),
    ],
)
def test_who_keeps_limits(
    words: list[str],
    limits: bool,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fight(self: Battle) -> dict[str, Any]:
        return {**CLEAN, "limits": self._orders.limits}

    monkeypatch.setattr(Battle, "fight", fight)
    command.main([*ORDERS, *words])

    assert json.loads(capsys.readouterr().out)["limits"] is limits


def test_stock_celery_keeps_no_limits(temporary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main([*ORDERS, "--stock", "--limits"])

    assert "stock Celery keeps no limits" in capsys.readouterr().err
