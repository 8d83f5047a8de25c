"""Hooks and log lines of real slots: when they are called in its life, and what an operator reads."""

import logging
import os
import signal

import pytest
from process.fleet import SERVER, Fleet
from support.waiting import wait_for

from qslots.hooks import HOOKS, Hooks

SHOP = """\
import logging

from qslots import hooks

log = logging.getLogger("shop")


@hooks.after_fork
def connect(slot: hooks.Slot) -> None:
    note("fork", slot.server, slot.index, slot.generation)
    if (HERE / "broken").exists():
        raise ConnectionError("no database")


@hooks.before_task
def before(task: Task) -> None:
    note("before", task.id)


@hooks.after_task
def after(task: Task, outcome: str) -> None:
    note("after", task.id, outcome)


@hooks.on_failure
def failure(task: Task, error: BaseException, outcome: str) -> None:
    note("failure", task.id, type(error).__name__, outcome)


@hooks.before_exit
def leave(slot: hooks.Slot) -> None:
    note("exit", slot.index)
    raise ValueError("of no interest now")


@task(max_failures=1)
def work(n: int) -> None:
    log.info("hello from %d", n)
    if n == 2:
        raise ValueError
    if n == 3:
        note("begin", n)
        gate("open")
"""
OWN_LOGGING = """\
import logging
import sys

handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(logging.Formatter("%(server)s/%(slot)s %(queue)s %(task_id)s %(message)s"))
logging.getLogger().addHandler(handler)
logging.getLogger().setLevel(logging.INFO)
logging.info("imported")


@task
async def work(n: int) -> None:
    logging.info("hello from %d", n)
"""

ALL_WAYS = {
    "basicConfig": 'logging.basicConfig(level="DEBUG", format="%(message)s, says %(name)s")',
    "addHandler": """\
handler = logging.StreamHandler()
handler.setFormatter(logging.Formatter("%(message)s, says %(name)s"))
logging.getLogger().addHandler(handler)
""",
    "dictConfig": """\
import logging.config

logging.config.dictConfig({
    "version": 1,
    "formatters": {"f": {"format": "%(message)s, says %(name)s"}},
    "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "f"}},
    "root": {"level": "INFO", "handlers": ["h"]},
})
""",
    "basicConfig after the fork": """\
from qslots import hooks


@hooks.after_fork
def set_up(slot: hooks.Slot) -> None:
    logging.basicConfig(level="INFO", format="%(message)s, says %(name)s")
""",
}
FAILS = """

logging.getLogger("shop").warning("imported")


@task(max_failures=1)
def work(n: int) -> None:
    logging.getLogger("shop").info("hello from %d", n)
    [][n]
"""


@pytest.fixture(autouse=True)
def none_stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The application is imported into the test's own process too, to enqueue."""
    for name in vars(Hooks()):
        monkeypatch.setattr(HOOKS, name, [])
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers[:])
    monkeypatch.setattr(root, "level", root.level)


def test_hooks_are_called_in_order_from_the_birth_of_a_slot_to_its_end(fleet: Fleet) -> None:
    master = fleet.launch(SHOP, ("work",))
    one, two, three = (each.id for each in fleet.app.work.enqueue_many([(1,), (2,), (3,)]))
    [run] = fleet.wait_run("begin", 3)
    os.kill(run.pid, signal.SIGTERM)
    fleet.open()
    fleet.wait_run("exit", 0)
    seen = [each.words for each in fleet.runs() if each.pid == run.pid]
    assert seen == [
        ("fork", SERVER, "0", "1"), ("before", one), ("after", one, "done"),
        ("before", two), ("failure", two, "ValueError", "buried"), ("after", two, "buried"),
        ("before", three), ("begin", "3"), ("after", three, "done"), ("exit", "0"),
    ]  # fmt: skip
    assert f"INFO slot 0 of {SERVER} [work {one}]: hello from 1" in master.said()
    wait_for(lambda: "the hook leave raised; nothing is changed by it" in master.said(), master.said)


def test_slot_whose_hook_refuses_takes_nothing_and_says_why(fleet: Fleet) -> None:
    fleet.write_app(SHOP)
    fleet.open("broken")
    fleet.publish(("work",))
    master = fleet.start_master()
    fleet.app.work.enqueue(1)
    fleet.wait_run("fork", count=2)
    why = "slot 0 could not begin: hook after_fork: connect raised ConnectionError: no database"
    wait_for(lambda: why in master.said(), master.said)
    assert fleet.stats().taken == 0
    assert fleet.runs("exit") == []
    (fleet.folder / "broken").unlink()
    fleet.wait_empty()
    assert len(fleet.runs("before")) == 1


def test_logging_of_the_application_can_name_task_and_place(fleet: Fleet) -> None:
    master = fleet.launch(OWN_LOGGING, ("work",))
    one = fleet.app.work.enqueue(1).id
    fleet.wait_empty()
    assert f"{SERVER}/0 work {one} hello from 1" in master.said()
    assert "-/- - - imported" in master.said()


@pytest.mark.parametrize("way", ALL_WAYS)
def test_logging_that_the_application_sets_up_is_the_only_one_and_serves_ours_too(fleet: Fleet, way: str) -> None:
    (fleet.folder / "only_there").touch()
    source = f"import logging\nif pathlib.Path('only_there').exists():\n{indented(ALL_WAYS[way])}{FAILS}"
    master = fleet.launch(source, ("work",))
    one = fleet.app.work.enqueue(1).id
    fleet.wait_empty()
    said = master.said()
    assert said.count("imported") == said.count("hello from 1") == 1
    assert "hello from 1, says shop\n" in said
    line = f"work {one} is buried after 1 failure: IndexError: list index out of range ({fleet.folder}/"
    assert said.count(line) == 1
    assert said.partition(line)[2].splitlines()[0].endswith("), says qslots.slot")
    assert "    [][n]\n" in said, "the traceback follows"
    assert "/qslots/" not in said


def test_lines_of_an_application_without_logging_come_once_from_the_import_on(fleet: Fleet) -> None:
    master = fleet.launch(f"import logging\n{FAILS}", ("work",))
    one = fleet.app.work.enqueue(1).id
    fleet.wait_empty()
    assert master.said().count("WARNING mold: imported") == 1
    assert master.said().count(f"INFO slot 0 of {SERVER} [work {one}]: hello from 1") == 1
    assert master.said().count(f"WARNING slot 0 of {SERVER}: work {one} is buried after 1 failure: IndexError") == 1


def test_log_level_is_that_of_all_and_debug_shows_each_task(fleet: Fleet) -> None:
    fleet.environ["QSLOTS_LOG_LEVEL"] = "debug"
    master = fleet.launch(f"import logging\n{FAILS}", ("work",))
    one = fleet.app.work.enqueue(1).id
    fleet.wait_empty()
    begins, ends = (
        f"DEBUG slot 0 of {SERVER}: work {one} begins",
        f"DEBUG slot 0 of {SERVER}: work {one} has ended: buried",
    )
    assert master.said().count(begins) == master.said().count(ends) == 1


def indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())
