"""A hook runs with its module once that is imported, and the module notices nothing."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from celery_ezthrottle._common.when_imported import when_imported


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder from which modules are imported."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_the_hook_gets_the_whole_module_before_who_imports_it(folder: Path) -> None:
    (folder / "hooked_whole.py").write_text("first = 1\nlast = 2\n")
    seen: list[tuple[ModuleType, int]] = []
    when_imported("hooked_whole", lambda module: seen.append((module, module.last)))
    assert seen == []
    module = importlib.import_module("hooked_whole")
    assert seen == [(module, 2)]
    importlib.reload(module)
    assert len(seen) == 1


def test_the_module_has_its_own_loader(folder: Path) -> None:
    (folder / "hooked_package").mkdir()
    (folder / "hooked_package" / "__init__.py").write_text("during = __spec__.loader\n")
    (folder / "hooked_package" / "data.txt").write_text("x")
    when_imported("hooked_package", lambda module: None)
    module = importlib.import_module("hooked_package")
    assert module.__spec__ is not None
    assert module.__loader__ is module.__spec__.loader is module.during
    assert type(module.__loader__).__name__ == "SourceFileLoader"


def test_an_imported_module_is_hooked_at_once() -> None:
    seen: list[ModuleType] = []
    when_imported("json", seen.append)
    assert seen == [sys.modules["json"]]


def test_a_module_that_is_not_there_is_not_found_as_before() -> None:
    when_imported("hooked_but_missing", lambda module: None)
    with pytest.raises(ModuleNotFoundError, match="No module named 'hooked_but_missing'"):
        importlib.import_module("hooked_but_missing")


def test_a_module_that_fails_is_hooked_when_it_is_imported_again(folder: Path) -> None:
    file, seen = folder / "hooked_failing.py", list[ModuleType]()
    file.write_text("1 / 0\n")
    when_imported("hooked_failing", seen.append)
    with pytest.raises(ZeroDivisionError):
        importlib.import_module("hooked_failing")
    assert seen == []
    file.write_text("worked = True  # of another size, so that no cache hides it\n")
    importlib.invalidate_caches()
    module = importlib.import_module("hooked_failing")
    assert seen == [module]
    assert module.worked
