"""The walls of the house: who imports whom, and what the pure floor may not touch."""

import ast
import functools
import pathlib
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
        *("bounds", "figures", "generations", "pacing", "shedding", "recycling", "growth", "imported"),
    ],
    "qmanager": [
        *(f"planning/{path.stem}" for path in FLOORS["qmanager"].glob("planning/*.py")),
        *("changes", "dryrun", "pins", "presence", "readings", "schedules"),
    ],
}
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


@pytest.mark.parametrize(("package", "module"), [(package, module) for package in PURE for module in PURE[package]])
def test_pure_module_touches_nothing_outside(package: str, module: str) -> None:
    touched = imported(FLOORS[package] / f"{module}.py") & IMPURE
    assert {name for name in touched if (module, name) not in ONLY_NAMES} == set()


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
