"""The walls of the house: who imports whom, and what the pure floor may not touch."""

import ast
import functools
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
FLOORS = {
    "qslots": ROOT / "slots/qslots",
    "qmaster": ROOT / "supervisor/qmaster",
    "qmanager": ROOT / "manager/qmanager",
}
MODULES = sorted(path for folder in FLOORS.values() for path in folder.rglob("*.py"))
BY_NAME = {
    ".".join([package, *path.relative_to(folder).with_suffix("").parts]): path
    for package, folder in FLOORS.items()
    for path in folder.rglob("*.py")
}
IMPURE = {
    "os", "time", "signal", "socket", "random", "redis", "logging", "subprocess", "threading", "select", "selectors",
    "multiprocessing", "asyncio", "secrets", "psutil", "fcntl", "mmap",
}  # fmt: skip
PURE = {
    "qslots": [
        *("alerts", "believed", "errors", "keys", "lottery", "outcomes", "packtimes", "periodic", "records", "reports"),
        *("states", "traces", "units", "testing/wanted", "daemon/faults", "daemon/requests"),
    ],
    "qmaster": [
        *("capacity", "children", "deaths", "reconcile", "watch", "letters", "relief", "findings", "forecast"),
        *("bounds", "figures", "generations", "pacing", "shedding", "recycling", "growth", "imported", "faults"),
    ],
    "qmanager": [
        *(f"planning/{path.stem}" for path in FLOORS["qmanager"].glob("planning/*.py")),
        *("changes", "dryrun", "pins", "presence", "readings", "schedules"),
    ],
}
SAY_SO = re.compile(r"\bPure\b")
ONLY_NAMES = {("deaths", "signal")}  # the names of signals are data


@functools.cache
def imported(path: pathlib.Path) -> frozenset[str]:
    """The first parts of all names that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").partition(".")[0])
    return frozenset(found)


def floor(path: pathlib.Path) -> str:
    return next(name for name, folder in FLOORS.items() if folder in path.parents)


@pytest.mark.parametrize(("below", "forbidden"), [
    ("qslots", {"qmaster", "qmanager"}), ("qmaster", {"qmanager"}), ("qmanager", {"qmaster"}),
])  # fmt: skip
def test_master_and_manager_meet_only_in_the_queue_server(below: str, forbidden: set[str]) -> None:
    guilty = {path.name: imported(path) & forbidden for path in MODULES if floor(path) == below}
    assert len(guilty) > 5
    assert {name: names for name, names in guilty.items() if names} == {}


def pure() -> set[pathlib.Path]:
    """Those that are listed, and those whose first lines say so."""
    listed = {FLOORS[package] / f"{module}.py" for package in PURE for module in PURE[package]}
    return listed | {path for path in MODULES if SAY_SO.search(ast.get_docstring(ast.parse(path.read_text())) or "")}


@pytest.mark.parametrize("path", sorted(pure()), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_pure_module_touches_nothing_outside(path: pathlib.Path) -> None:
    touched = imported(path) & IMPURE
    assert {name for name in touched if (path.stem, name) not in ONLY_NAMES} == set()


def names_in(path: pathlib.Path) -> set[str]:
    """All that a module imports from others, dotted, and the modules that these names are in."""
    package = [floor(path), *path.relative_to(FLOORS[floor(path)]).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.ImportFrom):
            where = [*package[: len(package) + 1 - node.level], node.module] if node.level else [node.module]
            module = ".".join(filter(None, where))
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def reached(path: pathlib.Path) -> set[pathlib.Path]:
    """The module, those of ours that it imports, those that these import, and so on."""
    found: set[pathlib.Path] = set()
    todo = {path}
    while todo:
        found |= todo
        todo = {BY_NAME[name] for each in todo for name in names_in(each) & BY_NAME.keys()} - found
    return found


@pytest.mark.parametrize("path", sorted(FLOORS["qmanager"].glob("planning/*.py")), ids=lambda path: path.stem)
def test_planning_touches_nothing_outside_however_far_one_looks(path: pathlib.Path) -> None:
    touched = {f"{each.stem}: {name}" for each in reached(path) for name in imported(each) & IMPURE}
    assert touched == set()


def test_architecture_calls_no_other_module_pure() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    named = re.search(r"the pure modules \(all of\s+`qmanager/planning`, ([a-z, \n]+)\) take", text)
    assert named is not None
    assert {name.strip() for name in named[1].split(",")} <= {path.stem for path in pure()}


def test_packages_import_each_other_by_name_and_themselves_by_dots() -> None:
    assert [str(path.relative_to(ROOT)) for path in MODULES if floor(path) in imported(path) - {"qslots"}] == []


def test_modules_stay_short() -> None:
    long = {path.name: lines for path in MODULES if (lines := path.read_text().count("\n")) > 400}
    assert long == {}


def test_a_master_is_started_without_what_only_commands_show() -> None:
    loaded = "import sys, qmaster.cli, qmaster.master; print('rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_an_application_loads_nothing_of_the_daemons() -> None:
    loaded = "import sys, qslots; print([name for name in sys.modules if name.startswith('qslots.daemon')])"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
