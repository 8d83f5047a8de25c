"""How tasks end: retried with backoff, postponed, buried with the reason; alone, in packs, or unreadable."""

import itertools
import signal

import msgspec
from process.fleet import START, Fleet
from support.waiting import wait_for

from qslots.records import header

ENDS = """\
@task(backoff="100ms..200ms", max_failures=3)
def fail() -> None:
    note("fail")
    raise ValueError("no such luck")


@task
def retry() -> None:
    note("retry")
    if times("retry") < 3:
        raise Retry("50ms")


@task
def postpone() -> None:
    note("postpone")
    if times("postpone") < 2:
        raise Postpone(delay="300ms")


@task
def bury() -> None:
    note("bury")
    raise Bury("it can never be")


@task(never_retry=(KeyError,))
def never() -> None:
    note("never")
    raise KeyError("gone")
"""
QUEUES = ("fail", "retry", "postpone", "bury", "never")
PACKS = """\
@task(batch=20)
def mixed(tasks: list[Task]) -> None:
    for task in tasks:
        (what,) = task.args
        note(what, len(tasks))
        if what == "retry" and task.retries == 0:
            task.retry(delay="50ms")
        if what == "bury":
            task.bury("not this one")
        if what == "postpone" and times(what, 1) + times(what, len(tasks)) < 2:
            task.postpone(at=time.time() + 0.2)


@task(batch=20, max_failures=2, backoff="50ms..50ms")
def narrow(tasks: list[Task]) -> None:
    note("pack", len(tasks))
    if any(task.args == (7,) for task in tasks):
        raise ValueError("seven")
    for task in tasks:
        note("done", task.args[0])
"""
PRINTS = """\
print("imported")


@task
def work(n: int) -> None:
    print("line", n)
    print("no newline", n, end="")
"""
NUMBERS = """\
@task(max_failures=2, backoff="50ms..50ms")
def work(n: int) -> None:
    note("end", n)
"""
NEWER = """\
@task(max_failures=2, backoff="50ms..50ms")
def work(text: str) -> None:
    note(text)
"""


def gaps(fleet: Fleet, word: str) -> list[float]:
    return [later.at - before.at for before, later in itertools.pairwise(fleet.runs(word))]


def test_what_handlers_print_goes_out_line_by_line_and_is_whole_at_the_end(fleet: Fleet) -> None:
    fleet.write_app(PRINTS)
    fleet.app.work.enqueue_many([(n,) for n in range(3)])
    fleet.publish(("work",))
    master = fleet.start_master()
    wait_for(lambda: "line 2" in master.out.read_text(), "the third task to print")
    fleet.wait_empty()
    master.signal(signal.SIGTERM)
    assert master.ended(20.0) == 0
    said = master.out.read_text()
    assert said.count("imported") == 1
    assert [said.count(f"line {n}\n") for n in range(3)] == [1, 1, 1]
    assert [said.count(f"no newline {n}") for n in range(3)] == [1, 1, 1]


def test_each_way_to_end_a_task(fleet: Fleet) -> None:
    fleet.write_app(ENDS)
    tasks = {name: getattr(fleet.app, name).enqueue().id for name in QUEUES}
    fleet.publish(QUEUES)
    fleet.start_master()
    for queue in QUEUES:
        fleet.wait_empty(queue)
    assert [len(fleet.runs(queue)) for queue in QUEUES] == [3, 3, 2, 1, 1]
    assert [fleet.buried(queue) for queue in QUEUES] == [
        {tasks["fail"]}, set(), set(), {tasks["bury"]}, {tasks["never"]},
    ]  # fmt: skip
    fate = fleet.fates("fail")[tasks["fail"]]
    assert (fate.failures, fate.crashes) == (3, 0)
    assert "Traceback" in fate.error
    assert f'{fleet.folder}/shop.py", line' in fate.error
    assert fate.error.endswith("ValueError: no such luck")
    assert [gap > least for gap, least in zip(gaps(fleet, "fail"), (0.08, 0.16), strict=True)] == [True, True]
    assert all(gap > 0.04 for gap in gaps(fleet, "retry"))
    assert gaps(fleet, "postpone")[0] > 0.29
    assert fleet.fates("bury")[tasks["bury"]].error == "it can never be"
    assert fleet.fates("bury")[tasks["bury"]].failures == 0
    assert "KeyError" in fleet.fates("never")[tasks["never"]].error
    assert fleet.fates("retry") == fleet.fates("postpone") == {}


def test_a_pack_handler_says_of_each_task_how_it_ended(fleet: Fleet) -> None:
    fleet.write_app(PACKS)
    fleet.app.mixed.enqueue_many([("warm",), ("warm",), ("warm",)])
    fleet.app.mixed.enqueue_many([("done",), ("retry",), ("postpone",), ("done",)])
    lost = fleet.app.mixed.enqueue("bury").id
    fleet.publish(("mixed",))
    fleet.start_master()
    fleet.wait_empty("mixed")
    assert {word: len(fleet.runs(word)) for word in ("warm", "done", "retry", "postpone", "bury")} == {
        "warm": 3, "done": 2, "retry": 2, "postpone": 2, "bury": 1,
    }  # fmt: skip
    assert max(int(run.words[1]) for run in fleet.runs()) > 1, "never a pack of several"
    assert fleet.buried("mixed") == {lost}
    assert fleet.fates("mixed")[lost].error == "not this one"


def test_a_pack_handler_that_raises_gets_narrower_packs_until_the_bad_task_is_alone(fleet: Fleet) -> None:
    fleet.write_app(PACKS)
    tasks = fleet.app.narrow.enqueue_many([(n,) for n in range(20)])
    fleet.publish(("narrow",))
    fleet.start_master()
    fleet.wait_empty("narrow")
    assert fleet.buried("narrow") == {tasks[7].id}
    assert sorted(int(run.words[1]) for run in fleet.runs("done")) == [n for n in range(20) if n != 7]
    fate = fleet.fates("narrow")[tasks[7].id]
    assert fate.failures == 2
    assert fate.losses >= 1
    assert "ValueError: seven" in fate.error
    assert fleet.fates("narrow").keys() == {tasks[7].id}


def test_what_cannot_be_read_or_does_not_fit_is_buried_with_the_reason_and_the_queue_goes_on(fleet: Fleet) -> None:
    fleet.write_app(NUMBERS)
    fleet.app.work.enqueue(1)
    now = float(fleet.client.redis.time()[0] - 60) * 1e6
    for name, record in {"empty": b"", "garbage": b"\xff" * 40, "foreign": b"\x02" + b"\0" * 40}.items():
        fleet.client.redis.hset("qs:{work}:tasks", name, record)
        fleet.client.redis.zadd("qs:{work}:schedule:work", {name: now})
    body = msgspec.msgpack.encode({"n": "seven"})
    same = fleet.app.work.handler.arguments.signature
    for name, signature in (("misfit", same), ("other-version", same ^ 1)):
        fleet.client.put("work", "work", header("work", signature), [name], [b"\1" + body])
    fleet.client.put("work", "work", header("work", same), ["cut"], [b"\1\x81"])
    fleet.app.work.enqueue(2)
    fleet.publish(("work",))
    fleet.start_master()
    fleet.wait_empty()
    assert [run.words for run in fleet.runs("end")] == [("end", "1"), ("end", "2")]
    fates = fleet.fates()
    bad = {"empty", "garbage", "foreign", "misfit", "other-version", "cut"}
    assert fleet.buried() == fates.keys() == bad
    assert {name: fates[name].failures for name in bad if fates[name].failures} == {"other-version": 2}
    assert "cannot be read" in fates["garbage"].error
    assert "argument n: Expected `int`, got `str`" in fates["misfit"].error
    assert "argument n: Expected `int`, got `str`" in fates["other-version"].error


def test_code_that_fits_nothing_that_waits_costs_a_hundred_tasks_and_not_all(fleet: Fleet) -> None:
    fleet.write_app(NUMBERS)
    newer = header("work", fleet.app.work.handler.arguments.signature ^ 1)
    body = b"\1" + msgspec.msgpack.encode({"text": "newer"})
    fleet.client.put("work", "work", newer, [f"n{n:03}" for n in range(400)], [body] * 400)
    fleet.publish(("work",))
    fleet.start_master()
    stats = wait_for(lambda: found if (found := fleet.stats()).reasons else None, fleet.all_said, START)
    assert stats.reasons["handler:work"].startswith(
        "100 tasks in a row did not fit, the last one: Object contains unknown field `text`; "
    )
    wait_for(lambda: not fleet.stats().locked, fleet.all_said)
    stats = fleet.stats()
    assert (stats.active + stats.inactive, stats.failed, stats.buried, stats.takeable) == (400, 100, 0, 0)
    wait_for(lambda: "handler work of queue work is parked: 100 tasks" in fleet.all_said(), fleet.all_said)
    fleet.stop_programs()
    fleet.write_app(NEWER)
    fleet.start_master()
    fleet.slots(1)
    assert fleet.stats().takeable == 0
    command = fleet.start("qmanager.admin", "queue", "resume", "work", "--handler", "work")
    assert command.ended() == 0, command.said()
    fleet.wait_empty()
    assert (len(fleet.runs("newer")), fleet.buried()) == (400, set())
