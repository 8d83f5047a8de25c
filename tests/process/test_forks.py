"""What application code forks never becomes a second slot, wherever the child comes back: each task runs once."""

import pytest
from process.fleet import Fleet

from qslots.hooks import HOOKS, Hooks

SHOP = """\
import asyncio
import sys

from qslots import hooks


def fork(where: str) -> None:
    if os.fork() == 0:
        note("child", where)
        sys.exit()


@hooks.after_task
def after(task: Task, outcome: str) -> None:
    if task.handler == "ended":
        fork("ended")


@hooks.before_task
def before(task: Task) -> None:
    if task.handler == "together":
        fork("together")


@task(queue="work")
def single(n: int) -> None:
    note("single", n)
    fork("single")


@task(queue="work")
def ended(n: int) -> None:
    note("ended", n)


@task(queue="work")
def together(tasks: list[Task]) -> None:
    for each in tasks:
        note("together", *each.args)


async def part() -> None:
    fork("beside")


@task(queue="work")
async def beside(n: int) -> None:
    await asyncio.wait([asyncio.create_task(part())])
    note("beside", n)
"""
TASKS = 8


@pytest.fixture(autouse=True)
def none_stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The application is imported into the test's own process too, to enqueue."""
    for name in vars(Hooks()):
        monkeypatch.setattr(HOOKS, name, [])


@pytest.mark.parametrize("handler", ["single", "ended", "together", "beside"])
def test_child_that_comes_back_from_application_code_ends(fleet: Fleet, handler: str) -> None:
    fleet.launch(SHOP, ("work",))
    getattr(fleet.app, handler).using().enqueue_many([(n,) for n in range(TASKS)])
    fleet.wait_empty()
    fleet.wait_run("child", handler, count=TASKS)
    assert sorted(int(run.words[1]) for run in fleet.runs(handler)) == list(range(TASKS))
    stats = fleet.stats()
    assert (stats.done, stats.failed, stats.crashed, stats.lost) == (TASKS, 0, 0, 0)
    assert len({run.pid for run in fleet.runs(handler)}) == 1
