"""How the collector's modules stand on each other, what each may import, and how large they are."""

from __future__ import annotations

import ast
import re
import statistics
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import collector
from tests.support.places import HOME
from tests.support.texts import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUSE = Path(collector.__file__).parent
PAGE = "docs/architecture.rst"


def allowed_by_the_page() -> dict[str, set[str]]:
    """Return what each package, and each module on the ground, may import, from the bottom up."""
    lines = [line.partition(": ") for line in shown(PAGE, "escape: nothing").splitlines()]
    return {name: set(others.split()) - {"nothing"} for name, _, others in lines}


ALLOWED = allowed_by_the_page()
GEVENT = {name.replace("/", ".") for name in shown(PAGE, "greenlets\n").split()}
# What starts before a worker is, or without one, must not pay for gevent, which these would import by others.
WITHOUT_GEVENT = (
    *("__main__", "cli", "commands.*", "config.*", "pickles.*", "wire.*", "format.*", "readback.*"),
    *("forward.*", "spool.*"),
    *("daemon.guardian", "daemon.preflight", "files.lock", "files.inventory"),
)
MAX_LINES = 400
MAX_MEDIAN_LINES = 150
MAX_FUNCTION_LINES = 60
LONG_FUNCTIONS = {
    "pickles.reader.read": "a call for each opcode would double its time",
    "pickles.machine.Machine.step": "flat: an opcode and what it does, as the format has it",
}


class Import(NamedTuple):
    """Where a module names another one of ours, or gevent."""

    target: str
    line: int
    at_start: bool
    """Whether to load the one loads the other: neither for types alone, nor within a function."""


class Module(NamedTuple):
    name: str
    """Without `collector.`: `files.writer`."""
    lines: int
    tree: ast.Module


@cache
def modules() -> dict[str, Module]:
    found = {}
    for path in sorted(HOUSE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        name = ".".join(path.relative_to(HOUSE).with_suffix("").parts)
        found[name] = Module(name, source.count("\n"), ast.parse(source))
    return found


def named_by(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Name the modules of ours that *node* imports, and gevent."""
    assert not getattr(node, "level", 0), "imports are absolute"
    names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
    for name in names:
        root, _, rest = name.partition(".")
        if root == "gevent":
            yield "gevent"
        elif root == "collector" and rest in modules():
            yield rest
        elif root == "collector":  # a package: its modules, or what its __init__ has
            package = f"{rest}." if rest else ""
            for alias in node.names:
                inner = f"{package}{alias.name}"
                yield inner if inner in modules() else f"{package}__init__"


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


@cache
def imports(name: str) -> list[Import]:
    """Return all that a module imports, wherever it does."""

    def within(node: ast.AST, *, at_start: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                for target in named_by(child):
                    yield Import(target, child.lineno, at_start)
            else:
                later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) or is_for_types(child)
                yield from within(child, at_start=at_start and not later)

    return list(within(modules()[name].tree, at_start=True))


def loaded_with(name: str) -> set[str]:
    """Return what is loaded when a module is."""
    loaded: set[str] = set()
    waiting = {name}
    while waiting:
        one = waiting.pop()
        loaded.add(one)
        if one != "gevent":
            waiting |= {found.target for found in imports(one) if found.at_start} - loaded
    return loaded


def package_of(name: str) -> str:
    """Return the package of a module, or itself where it lies on the ground."""
    return name.partition(".")[0]


def matching(patterns: tuple[str, ...]) -> list[str]:
    return [name for name in modules() if any(fnmatch(name, pattern) for pattern in patterns)]


def functions(module: Module) -> Iterator[tuple[str, int]]:
    """Name all functions, with the lines that they have."""

    def within(node: ast.AST, owner: str) -> Iterator[tuple[str, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{owner}.{child.name}"
                if not isinstance(child, ast.ClassDef):
                    yield name, (child.end_lineno or 0) - child.lineno + 1
                yield from within(child, name)
            else:
                yield from within(child, owner)

    return within(module.tree, module.name)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules each of which reaches all others of its group."""

    def reached_from(name: str) -> set[str]:
        reached: set[str] = set()
        waiting = set(graph[name])
        while waiting:
            one = waiting.pop()
            reached.add(one)
            waiting |= graph[one] - reached
        return reached

    reached = {name: reached_from(name) for name in graph}
    groups = {frozenset(other for other in reached[name] if name in reached[other]) for name in graph}
    return sorted(sorted(group) for group in groups if group)


@pytest.mark.parametrize("row", ["``commands``", "the ground"])
def test_the_page_names_each_command_and_all_that_stands_on_the_ground(row: str) -> None:
    _, _, rest = (HOME / PAGE).read_text(encoding="utf-8").partition(f"   * - {row}\n")
    named = re.findall(r"``(\w+)``", re.split(r"   \* - |\n\n", rest)[0])
    above = "commands." if row == "``commands``" else ""
    there = {name.removeprefix(above) for name in modules() if name.startswith(above)}
    assert {name for name in there if "." not in name and name[0] != "_" and name != "cli"} == set(named)


def test_imports_are_seen_wherever_they_stand() -> None:
    """Else all that follows would hold of a house that nobody has looked at."""
    assert {("daemon.worker", False), ("log", True)} <= {one[::2] for one in imports("commands.run")}
    assert {("config.tables", False), ("gevent", True)} <= {one[::2] for one in imports("daemon.worker")}
    assert [["a", "b"]] == circles({"a": {"b"}, "b": {"a"}, "c": {"a"}})


def test_the_page_names_each_package_and_only_what_stands_above_it_in_its_list() -> None:
    assert {package_of(name) for name in modules()} - {"__init__"} == set(ALLOWED)
    above: set[str] = set()
    for name, others in ALLOWED.items():
        assert others <= above, name
        above.add(name)


def test_each_package_imports_what_the_page_says_and_nothing_else() -> None:
    importing: dict[str, set[str]] = {name: set() for name in ALLOWED}
    for name in set(modules()) - {"__init__"}:
        others = {package_of(found.target) for found in imports(name)}
        importing[package_of(name)] |= others - {"gevent", "__init__", package_of(name)}
    assert ALLOWED == importing


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert [] == circles({name: {one.target for one in imports(name)} - {"gevent"} for name in modules()})


def test_reading_pickles_imports_nothing_of_ours() -> None:
    assert [] == [
        f"{name}:{found.line} imports {found.target}"
        for name in matching(("pickles.*",))
        for found in imports(name)
        if package_of(found.target) != "pickles"
    ]


def test_a_command_imports_no_other() -> None:
    assert [] == [
        f"{name}:{found.line} imports {found.target}"
        for name in matching(("commands.*",))
        for found in imports(name)
        if package_of(found.target) == "commands"
    ]


def test_gevent_is_imported_by_the_modules_listed() -> None:
    """By all of them: a list with more than that would no longer say who knows gevent."""
    importing = {name for name in modules() if any(found.target == "gevent" for found in imports(name))}
    assert GEVENT == importing


@pytest.mark.parametrize("name", matching(WITHOUT_GEVENT))
def test_what_needs_no_gevent_does_not_load_it(name: str) -> None:
    assert "gevent" not in loaded_with(name)


@pytest.mark.parametrize("name", matching(("__init__", "*.__init__")))
def test_an_init_holds_a_docstring_at_most(name: str) -> None:
    has = [ast.unparse(node).partition(" = ")[0] for node in modules()[name].tree.body]
    assert (["__version__"] if name == "__init__" else []) == has[1:]
    assert [] == has or ast.get_docstring(modules()[name].tree)


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    lines = {name: module.lines for name, module in modules().items()}
    assert {} == {name: count for name, count in lines.items() if count > MAX_LINES}
    median = statistics.median(count for name, count in lines.items() if "__init__" not in name)
    assert median <= MAX_MEDIAN_LINES


def test_no_function_is_longer_than_a_screen_but_those_with_a_reason() -> None:
    long = dict(
        one for module in modules().values() for one in functions(module) if one[1] > MAX_FUNCTION_LINES
    )
    assert {} == {name: count for name, count in long.items() if name not in LONG_FUNCTIONS}
    assert [] == sorted(set(LONG_FUNCTIONS) - set(long)), "a reason without need"
