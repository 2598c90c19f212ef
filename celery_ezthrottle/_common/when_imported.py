"""Do something with a module once it is imported, without importing it.

The package ``wrapt`` has this too. It is not used, because it loads ``importlib.metadata``. That takes as long as everything else
for which each process that sends a task pays.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["when_imported"]

_hooks: dict[str, Callable[[ModuleType], None]] = {}


def when_imported(name: str, hook: Callable[[ModuleType], None]) -> None:
    """Call ``hook`` with the module ``name``: at once if it is imported already, else right after its first import.

    Args:
        name: name of a top-level module. There is one hook for each.
    """
    module = sys.modules.get(name)
    if module is not None:
        hook(module)
        return
    _hooks[name] = hook
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


class _Finder(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _hooks:
            return None
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target) if finder is not self else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader)
                return spec
        return None


class _Loader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # The module has its own loader while it is executed and afterwards: others ask it for resources.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        hook = _hooks.pop(module.__name__, None)
        if hook is not None:
            hook(module)


_finder = _Finder()
