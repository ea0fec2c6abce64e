"""Style as a test: what keeps the house one that a newcomer can read."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MOST_LINES, MOST_TEST_LINES, MOST_FUNCTION_LINES = 320, 500, 50
# Lists, an item after the other, read better whole.
LISTS = {"migrations/versions/0001_open_ledger.py", "ledger/metrics.py", "ledger/core/entries.py"}


def _tracked() -> list[Path]:
    named = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in named.stdout.splitlines() if (ROOT / name).is_file()]


FILES = _tracked()
CODE = [path for path in FILES if path.suffix == ".py"]
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in CODE}
OURS = {name: tree for name, tree in TREES.items() if name.startswith(("ledger/", "consumers/"))}
CORE = {name: tree for name, tree in TREES.items() if name.startswith("ledger/core/")}
TEXT = [
    path for path in FILES if path.suffix in (".py", ".md", ".txt", ".toml", ".yaml", ".yml", ".json", ".sh", ".sql") or not path.suffix
]


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))


def test_no_file_is_too_long_to_read_in_one_sitting() -> None:
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in CODE}
    most = {name: MOST_TEST_LINES if name.startswith("tests/") else MOST_LINES for name in lengths}
    assert {name: lines for name, lines in lengths.items() if lines > most[name] and name not in LISTS} == {}


def test_no_function_is_too_long() -> None:
    long = {
        f"{name}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for name, tree in TREES.items()
        if name not in LISTS
        for node in _functions(tree)
        if node.end_lineno is not None and node.end_lineno - node.lineno + 1 > MOST_FUNCTION_LINES
    }
    assert long == {}


def test_nothing_is_imported_inside_a_function() -> None:
    """A lazy import hides a cycle or a cost."""
    found = [f"{name}:{inner.lineno}" for name, tree in OURS.items() for node in _functions(tree) for inner in _imports(node)]
    assert found == []


def test_nothing_is_imported_for_types_only() -> None:
    """TYPE_CHECKING hides a cycle."""
    assert [
        name for name, tree in OURS.items() for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "TYPE_CHECKING"
    ] == []


def _module(name: str) -> str:
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _imported(name: str, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    package = _module(name).split(".")
    if not name.endswith("__init__.py"):
        package = package[:-1]
    base = package[: len(package) - node.level + 1] if node.level else []
    whole = ".".join([*base, *([node.module] if node.module else [])])
    yield whole
    yield from (f"{whole}.{alias.name}" for alias in node.names)


def test_no_module_imports_itself_by_way_of_others() -> None:
    modules = {_module(name) for name in OURS}
    needs = {
        _module(name): {to for node in _imports(tree) for to in _imported(name, node) if to in modules and to != _module(name)}
        for name, tree in OURS.items()
    }
    packages = {module for module in modules if any(other.startswith(module + ".") for other in modules)}
    while free := [module for module, needed in needs.items() if not (needed - packages) & needs.keys()]:
        for module in free:
            del needs[module]
    assert needs == {}, "these import each other"


def test_the_core_has_no_clock_no_float_and_no_waiting() -> None:
    """M1, W5: time is an argument, and no float touches money."""
    wrong: list[str] = []
    for name, tree in CORE.items():
        for node in ast.walk(tree):
            clock = isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today", "time_ns", "monotonic")
            number = isinstance(node, ast.Constant) and isinstance(node.value, float)
            cast = isinstance(node, ast.Name) and node.id == "float"
            division = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
            waiting = isinstance(node, ast.Await | ast.AsyncFunctionDef)
            if clock or number or cast or division or waiting:
                wrong.append(f"{name}:{node.lineno}")
    assert wrong == []


def test_nothing_works_at_import() -> None:
    """A module defines; it opens, reads and calls nothing that can fail. Values, patterns, decoders and loggers are made."""
    done = [
        f"{name}:{node.lineno}"
        for name, tree in OURS.items()
        for node in tree.body
        if isinstance(node, ast.With | ast.Try | ast.While | ast.AsyncFor)
        or (isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant) and not name.endswith("__main__.py"))
    ]
    assert done == []


def test_every_module_says_what_it_owns_and_every_public_name_has_a_docstring() -> None:
    bare = [name for name, tree in OURS.items() if not ast.get_docstring(tree)]
    for name, tree in OURS.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
                bare += [] if ast.get_docstring(node) else [f"{name}:{node.lineno} {node.name}"]
    assert bare == []


def test_tests_are_named_as_sentences() -> None:
    short = [
        f"{name}: {node.name}"
        for name, tree in TREES.items()
        if name.startswith("tests/")
        for node in _functions(tree)
        if node.name.startswith("test_") and len(node.name.split("_")) < 4
    ]
    assert short == []


def test_every_test_can_fail() -> None:
    """It asserts, expects an exception, or hands over to something that does."""
    idle = [
        f"{name}:{node.lineno} {node.name}"
        for name, tree in TREES.items()
        if name.startswith("tests/")
        for node in _functions(tree)
        if node.name.startswith("test_") and not any(isinstance(part, ast.Assert | ast.Raise | ast.Call) for part in ast.walk(node))
    ]
    assert idle == []


@pytest.mark.parametrize("pattern", [r"\b(TODO|FIXME|XXX|HACK)\b", r"(?<![\w/])/(home|root|work|Users)/\w", r"<<<<<<< |>>>>>>> "])
def test_no_line_holds_what_should_not_ship(pattern: str) -> None:
    """No promises, no machine's own paths, no leftovers of a merge."""
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in TEXT
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert found == []


def test_only_one_file_asks_which_database_it_is() -> None:
    """dialect.py owns the differences."""
    asking = {
        name
        for name, tree in OURS.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        and any(isinstance(part, ast.Constant) and part.value in ("sqlite", "postgresql") for part in ast.walk(node))
    }
    assert asking <= {"ledger/store/dialect.py", "ledger/cli/serve.py"}
