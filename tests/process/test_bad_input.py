"""Bad input: one line that names the place, exit 1 or 2, no process left (the fleet looks at its end)."""

import pathlib
import re
from collections.abc import Mapping, Sequence

import pytest
from process.fleet import PACK, Fleet

from qslots.connection import KINDS

LOG = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ INFO ")
TASK = "from qslots import task\n\n\n@task\ndef work(n: int) -> None: ...\n"
MASTER, MANAGER, UP = ("qmaster", "run"), ("qmanager", "run"), ("qmanager.admin", "up")
NOWHERE = "redis://127.0.0.1:1"
APPS = {
    "missing": (None, "No module named 'missing' in /"),
    "absent.tasks": (None, "nor among the installed: start it in the folder of absent, or name another module"),
    "pkg/tasks.py": (None, "app: 'pkg/tasks.py' is a path: write the module's name, pkg.tasks"),
    "syntax": ("def (\n", "syntax.py, line 1"),
    "raises": ('raise RuntimeError("no\\nluck")\n', "RuntimeError: no luck (/tmp/"),
    "leaves": ("import sys\nsys.exit(0)\n", "SystemExit"),
    "imports": ("import nowhere_to_be_found\n", "imports.py:1"),
    "nothing": ("import os\n", "declares no handler"),
    "twice": (TASK + '\n\n@task(name="work")\ndef other() -> None: ...\n', "handler work is declared at"),
    "option": (TASK.replace("@task\n", "@task(bach=3)\n"), "'bach'"),
    "value": (TASK.replace("@task\n", '@task(time_limit="soon")\n'), "time_limit is 'soon'"),
    "promise": (
        TASK.replace("@task\n", '@task(durability="replicated(7)")\n'),
        "cannot keep durability replicated(7, 1s)",
    ),
    "threads": (
        TASK
        + '\n\nimport threading\n\nthreading.Thread(target=threading.Event().wait, daemon=True, name="pump").start()\n',
        "pump",
    ),
    "aborts": ("import os\n\nos.abort()\n", "SIGABRT"),
}


def lines_of(fleet: Fleet, commands: Mapping[str, Sequence[str]], **environ: str) -> dict[str, str]:
    """What commands that must fail say, all started at once, each under a name of its own; that must be one line."""
    started = {
        name: fleet.start(*words, environ={**environ, "QSLOTS_SERVER": name.replace(" ", "-")})
        for name, words in commands.items()
    }
    found = {}
    for name, program in started.items():
        code = program.ended(30.0)
        lines = program.err.read_text().splitlines()
        if program.words[:2] == UP:  # its children may log until then
            lines = [line for line in lines if not LOG.match(line)]
        right = code in (1, 2) and len(lines) == 1 and not program.out.read_text()
        found[name] = lines[0] if right else f"exit {code}, not one line: {program.said()}"
    return found


def unexplained(found: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """The answers that do not say what is wanted."""
    assert found.keys() == wanted.keys()
    return {name: line for name, line in found.items() if wanted[name] not in line or "not one line" in line}


def written(folder: pathlib.Path, apps: Mapping[str, tuple[str | None, str]]) -> dict[str, str]:
    """Writes the modules; returns what is to be said of each."""
    for name, (source, _) in apps.items():
        if source is not None:
            (folder / f"{name}.py").write_text(source)
    return {name: said for name, (_, said) in apps.items()}


def test_applications_that_cannot_be_served(fleet: Fleet) -> None:
    wanted = written(fleet.folder, APPS)
    assert unexplained(lines_of(fleet, {name: (*MASTER, "--app", name) for name in APPS}), wanted) == {}


def test_up_ends_with_what_its_qmaster_refuses(bare_fleet: Fleet) -> None:
    apps = {name: APPS[name] for name in ("missing", "twice")}
    wanted = written(bare_fleet.folder, apps)
    commands = {name: (*UP, "--app", name, "--data", str(bare_fleet.folder / f"data-{name}")) for name in apps}
    assert unexplained(lines_of(bare_fleet, commands), wanted) == {}


@pytest.mark.parametrize("command", [MASTER, MANAGER, UP], ids=" ".join)
def test_settings_and_queue_servers_that_do_not_work(bare_fleet: Fleet, command: tuple[str, ...]) -> None:
    bare_fleet.write_app(PACK)
    (bare_fleet.folder / "key.yml").write_text("server: {max_slot: 3}\n")
    (bare_fleet.folder / "value.yml").write_text("queues: {work: {priority: high}}\n")
    wanted = {
        "key": "server.max_slot: no such setting; did you mean max_slots?",
        "value": "queues.work.priority: 'high'",
        "file": "cannot be read",
        "port": f"queue server {NOWHERE} does not answer",
        "socket": "none.sock does not answer",
        "scheme": f"write {KINDS}",
    }
    options = {
        "key": ("-c", "key.yml"),
        "value": ("-c", "value.yml"),
        "file": ("-c", "none.yml"),
        "port": ("--redis", NOWHERE),
        "socket": ("--redis", f"unix://{bare_fleet.folder}/none.sock"),
        "scheme": ("--redis", "http://127.0.0.1:1"),
    }
    if command == MANAGER:  # it waits for a queue server
        wanted, options = ({name: said for name, said in each.items() if name not in ("port", "socket")}
                           for each in (wanted, options))  # fmt: skip
    data = {name: ("--data", str(bare_fleet.folder / name)) if command == UP else () for name in options}
    commands = {name: (*command, *chosen, *data[name]) for name, chosen in options.items()}
    assert unexplained(lines_of(bare_fleet, commands, QSLOTS_APP="shop"), wanted) == {}


def test_what_must_be_named_is_not(bare_fleet: Fleet) -> None:
    found = lines_of(bare_fleet, {"master": (*MASTER, "--app", "shop"), "manager": MANAGER, "up": UP})
    wanted = {"master": "give --redis URL", "manager": "give --redis URL", "up": "give --app MODULE"}
    assert unexplained(found, wanted) == {}


def test_a_runtime_folder_that_cannot_be_used(fleet: Fleet) -> None:
    fleet.write_app(PACK)
    shared, deep = fleet.folder / "shared", fleet.folder / ("d" * 60) / ("e" * 40)
    shared.mkdir()
    shared.chmod(0o777)
    for folder, said in ((shared, f"folder {shared}"), (deep, "too long")):
        [line] = lines_of(fleet, {"here": (*MASTER, "--app", "shop")}, QSLOTS_RUNTIME_DIR=str(folder)).values()
        assert said in line
