"""docs/architecture.md and CONTRIBUTING.md name what is there: rooms, files, functions, commands."""

from __future__ import annotations

import ast
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "celery_ezthrottle"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PAGES = [ARCHITECTURE, ROOT / "CONTRIBUTING.md"]

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: In backticks: ``folder/``, ``folder/file.py``, or ``folder/file.py:Class.method``.
REFERENCE = re.compile(
    r"`([\w.-]+(?:/[\w.-]+)*/|(?:[\w.-]+/)*[\w-]*\.?[\w-]+\.(?:py|lua|md|toml|ini|json))(?::([\w.]+))?`"
)
LATER = "later, no code yet"


def references() -> list[tuple[str, str, str]]:
    """Page, path and name ("" where there is none) of each reference."""
    found = {
        (page.name, path, name) for page in PAGES for path, name in REFERENCE.findall(BLOCK.sub("", page.read_text()))
    }
    return sorted(found)


def commands() -> list[list[str]]:
    blocks = [text for page in PAGES for kind, text in BLOCK.findall(page.read_text()) if kind == "console"]
    lines = [line for text in blocks for line in text.splitlines() if line.startswith("$ ")]
    return [shlex.split(line.removeprefix("$ ")) for line in lines]


@cache
def names_in(path: Path) -> frozenset[str]:
    """The functions, classes and values of a module, and as ``Class.name`` those of its classes."""
    return frozenset(_names(ast.parse(path.read_text()).body, ""))


def _names(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name
        elif isinstance(node, ast.ClassDef):
            yield prefix + node.name
            yield from _names(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (prefix + target.id for target in targets if isinstance(target, ast.Name))


def section(title: str) -> str:
    """The text below a heading of docs/architecture.md, to the next one."""
    return ARCHITECTURE.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]


def table(title: str) -> list[list[str]]:
    """The rows of the one table in a section, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("| ---")][1:]


def floors() -> list[dict[str, set[str]]]:
    """The picture, from the roof down: the rooms of each floor, and what each imports. Without those of later."""
    drawn: list[dict[str, set[str]]] = [{}]
    room = ""
    for line in BLOCK.findall(section("The rooms"))[0][1].splitlines():
        if not line.startswith("│"):
            drawn.append({})
            continue
        _, name, holds, imports = (cell.strip() for cell in line.strip("│").split("│"))
        if name == "room" or holds.startswith(LATER):
            continue
        room = name.removesuffix("/").removesuffix(".py") or room
        drawn[-1].setdefault(room, set()).update(imports.split())
    return [floor for floor in drawn if floor]


def imports_of(room: str) -> set[str]:
    """The other rooms that a room imports from."""
    files = [PACKAGE / f"{room}.py"] if (PACKAGE / f"{room}.py").exists() else sorted((PACKAGE / room).rglob("*.py"))
    found = {target for file in files for target in _imported(file)}
    return found - {room}


def _imported(file: Path) -> Iterator[str]:
    package = file.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            near = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*near, *filter(None, [node.module])))
            modules = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in modules if name.startswith(f"{PACKAGE.name}."))


@pytest.mark.parametrize(("page", "path", "name"), references())
def test_each_path_and_name_exists(page: str, path: str, name: str) -> None:
    file = ROOT / path
    assert file.is_dir() if path.endswith("/") else file.is_file(), f"{page} names {path}"
    if name:
        assert name in names_in(file), f"{page} names {name} in {path}"


def test_the_references_are_found() -> None:
    """No slip in the pattern lets the test above look at nothing."""
    found = {
        page: [path for of, path, _ in references() if of == page] for page in ("architecture.md", "CONTRIBUTING.md")
    }
    assert len(found["architecture.md"]) > 100
    assert len(found["CONTRIBUTING.md"]) > 30
    # Everything in backticks that has a slash, or a name after ".py", is one of them.
    spans = {span for page in PAGES for span in re.findall(r"`([^`\n]+)`", BLOCK.sub("", page.read_text()))}
    unlike = {span for span in spans if not REFERENCE.fullmatch(f"`{span}`") and re.search(r"/|\.py\b", span)}
    assert unlike == set()


def test_each_room_is_in_the_picture_and_no_other() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and not path.name.startswith("__")}
    rooms |= {path.stem for path in PACKAGE.glob("*.py")}
    drawn = [room for floor in floors() for room in floor]
    assert sorted(drawn) == sorted(rooms)


@pytest.mark.parametrize("room", [room for floor in floors() for room in floor])
def test_each_room_imports_what_the_picture_says(room: str) -> None:
    drawn = next(floor[room] for floor in floors() if room in floor)
    assert drawn == imports_of(room)


def test_each_room_imports_only_from_the_floors_below() -> None:
    below: set[str] = set()
    for floor in reversed(floors()):
        for room, imports in floor.items():
            assert imports <= below, f"{room} imports {imports - below}"
        below |= floor.keys()


def test_rooms_of_later_are_not_there_yet() -> None:
    lines = [line.split("│")[2].strip() for line in section("The rooms").splitlines() if LATER in line]
    assert sorted(lines) == ["contrib/django/", "observability/", "testing/"]
    assert not [room for room in lines if (PACKAGE / room).exists()]


def test_each_word_has_one_row() -> None:
    words = Counter(word.strip().lower() for row in table("Words") for word in _terms(row[0]))
    assert len(words) > 40
    assert [word for word, times in words.items() if times > 1] == []


def _terms(cell: str) -> list[str]:
    """Of several words in one row each is one. A state, in capitals, is not the word that is written like it."""
    return [f"state {term}" if term.isupper() else term for term in cell.split(",")]


def test_the_words_that_readers_meet_first_are_there() -> None:
    words = {word.strip() for row in table("Words") for word in row[0].split(",")}
    assert words >= {
        "forward", "suspend", "park", "parked message", "continuation", "journal", "deliver", "resume", "expire", "run",
        "run id", "retry", "forward count", "waiter", "lease", "sweep", "settle", "claim", "FORWARDED",
    }  # fmt: skip
    source = (PACKAGE / "store" / "states.py").read_text()
    states = re.findall(r"^    ([A-Z]+) = ", source.split("class State")[1].split("class Act")[0], re.MULTILINE)
    assert states
    assert words >= set(states)


def test_each_change_has_a_place_and_tests() -> None:
    rows = table("Where does a change go?")
    assert len(rows) >= 20
    assert len({row[0] for row in rows}) == len(rows)
    for change, _, tests in rows:
        paths = [path for path, _ in REFERENCE.findall(tests)]
        assert paths, f"{change} has no tests"
        assert all(path.startswith("tests/") for path in paths)


def test_the_commands_of_contributing_name_what_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    seen = 0
    for program, *words in commands():
        if program == "make":
            missing = [target for target in words if not re.search(rf"^{target}:", makefile, re.MULTILINE)]
            assert missing == [], f"make {missing}"
            seen += 1
        elif program.endswith("/tox"):
            assert f"[testenv:{words[words.index('-e') + 1]}]" in (ROOT / "tox.ini").read_text()
            seen += 1
        elif words[0] == "-m" and words[1] != "pytest":
            module = ROOT.joinpath(*words[1].split("."))
            main = module / "__main__.py" if module.is_dir() else module.with_suffix(".py")
            options = set(re.findall(r'add_argument\("(--[\w-]+)"', main.read_text()))
            assert {word for word in words if word.startswith("--")} <= options
            seen += 1
        else:
            path, _, test = next(word for word in words if word.startswith("tests/")).partition("::")
            names = names_in(ROOT / path)
            name, _, row = test.partition("[")
            assert name in names if name else any(words[words.index("-k") + 1] in each for each in names)
            form = row.rpartition("-")[0]
            assert f'Form("{form}"' in (ROOT / "tests" / "canvases" / "forms.py").read_text() if row else True
            seen += 1
    assert seen == len(commands()) >= 8
