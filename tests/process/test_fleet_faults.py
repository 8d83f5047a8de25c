"""A real manager, and what a fleet does to it: masters vanish and come back, report nonsense, start a thousand at once;
keys are damaged, clocks are wrong, the queue server hangs, is emptied, answers garbage. The map goes on for all others.
"""

import contextlib
import json
import pathlib
import select
import signal
import socket
import threading
from collections import Counter
from functools import partial
from typing import Any

import msgspec
import pytest
from process.fleet import APP, SERVER, START, Fleet, Program
from support.moved_clock import sitecustomize as moved_clock
from support.waiting import wait_for

from qslots import keys
from qslots.control import Control
from qslots.reports import MapRow

TESTS = pathlib.Path(__file__).parents[1]
WORK = """\
@task
def work(n: int) -> None:
    note("work", n)


@task
def other(n: int) -> None:
    note("other", n)
"""
LOST_AFTER = 2.0


def manager(fleet: Fleet, *words: str) -> Program:
    return fleet.start("qmanager", "run", *words, environ={"QSLOTS_LOST_AFTER": f"{LOST_AFTER:g}s"})


def another(fleet: Fleet, name: str, environ: dict[str, str] | None = None) -> Program:
    """One more master."""
    return fleet.start("qmaster", "run", "--app", APP, "--server", name, environ=environ)


def rows(fleet: Fleet) -> dict[str, MapRow]:
    return Control(fleet.client).rows()


def wait_rows(fleet: Fleet, *names: str, within: float = START) -> dict[str, MapRow]:
    """The map, once it has exactly these servers, each with a slot."""

    def there() -> bool:
        found = rows(fleet)
        return found.keys() == set(names) and all(any(row.slots) for row in found.values())

    wait_for(there, lambda: f"rows of {names}; {sorted(rows(fleet))}; {fleet.all_said()}", within)
    return rows(fleet)


def published(fleet: Fleet) -> int:
    return int(fleet.client.redis.hget(keys.EPOCH, "seq") or 0)


def wait_cycles(fleet: Fleet, count: int) -> None:
    """Until so many plans more are published."""
    before = published(fleet)
    wait_for(lambda: published(fleet) >= before + count, lambda: f"{count} cycles; {fleet.all_said()}", START)


def count_lines(program: Program, words: str) -> int:
    return sum(words in line for line in program.said().splitlines())


# Masters


def test_a_master_that_falls_silent_is_lost_after_its_time_and_has_its_row_again_when_it_is_back(fleet: Fleet) -> None:
    fleet.write_app(WORK)
    told, first, second = manager(fleet), fleet.start_master(), another(fleet, "b")
    wait_rows(fleet, SERVER, "b")
    second.signal(signal.SIGSTOP)
    wait_rows(fleet, SERVER, within=LOST_AFTER + 4.0)
    fleet.app.work.enqueue(1)
    fleet.wait_run("work", 1)
    second.signal(signal.SIGCONT)
    wait_rows(fleet, SERVER, "b")
    second.signal(signal.SIGKILL)
    second.ended()
    wait_rows(fleet, SERVER, within=LOST_AFTER + 4.0)
    third = another(fleet, "b")
    wait_rows(fleet, SERVER, "b")
    assert (count_lines(told, "lost for want of a report within 2 s: b"), count_lines(told, "reporting: b")) == (2, 3)
    assert first.process.poll() is third.process.poll() is None


def test_nobody_is_lost_when_the_queue_server_or_the_manager_hangs(fleet: Fleet) -> None:  # case 43
    fleet.write_app(WORK)
    told = manager(fleet)
    fleet.start_master()
    another(fleet, "b")
    wait_rows(fleet, SERVER, "b")
    wait_cycles(fleet, 5)
    before = rows(fleet)
    assert fleet.redis is not None and fleet.redis.process is not None
    for process in (fleet.redis.process, told.process):
        process.send_signal(signal.SIGSTOP)
        stopped = threading.Event()
        stopped.wait(2 * LOST_AFTER)
        process.send_signal(signal.SIGCONT)
        wait_cycles(fleet, 5)
        assert {name: row.slots for name, row in rows(fleet).items()} == {
            name: row.slots for name, row in before.items()
        }
    assert count_lines(told, "lost for want") == 0, told.said()


NONSENSE: dict[str, Any] = {
    "negative": {"budget": -5, "max_slots": -1, "slot_size": 0},
    "greedy": {"max_slots": 10**9, "budget": 2**60, "slot_size": 1, "epoch": 2**62, "generation": 10**12},
    "nan": {"pss": float("nan"), "slots": [{"index": 0, "task_age": float("nan")}, {"index": -1}, 7]},
    "foreign": {"server": SERVER, "slots": [{"index": n, "queues": ["nobody", "x" * 999]} for n in (0, 0, 5000)]},
    "typed": {"budget": "much", "declared": 7, "slots": "none", "draining": []},
}
NO_HANDLER: dict[str, Any] = {"name": "work", "batch": 0, "periodic": {"every": -5}}


def test_masters_that_report_nonsense_are_told_of_once_and_harm_nobody_else(fleet: Fleet) -> None:
    fleet.write_app(WORK)
    told = manager(fleet)
    fleet.start_master()
    wait_rows(fleet, SERVER)
    wait_cycles(fleet, 3)
    before = rows(fleet)[SERVER]
    sound = msgspec.msgpack.decode(fleet.client.redis.hget(keys.REPORTS, SERVER) or b"")
    nonsense = {**NONSENSE, "declares": {"declared": "8"}}
    lies = {name: {**sound, "server": name, "slots": [], **lie} for name, lie in nonsense.items()}
    raw: dict[Any, bytes] = {name: msgspec.msgpack.encode(lie) for name, lie in lies.items()}
    raw |= {"garbage": b"\xc1\xff", b"\xff\x1b[31m": b"\xc1", "a b": b"\x80", "x" * 300: b"\x80", "empty": b"\x80"}
    now = fleet.client.redis.time()[0] + 3600  # they go on counting as there
    fleet.client.redis.hset(keys.REPORTS, mapping=raw)
    fleet.client.redis.zadd(keys.SEEN, dict.fromkeys(raw, now * 1e6))
    declared = msgspec.msgpack.encode({"queues": [{"name": "work", "handlers": [NO_HANDLER]}]})
    fleet.client.redis.hset(keys.DECLARED, mapping={"7": b"\xc1", "8": declared})
    wait_cycles(fleet, 4)
    found = rows(fleet)
    assert found[SERVER].epoch == before.epoch < 2**52
    assert {queue for queues in found[SERVER].slots for queue in queues} == {"work", "other"}
    assert not {"a b", "x" * 300} & found.keys()
    for name in ("negative", "typed", "garbage", "empty"):
        assert not any(found[name].slots), name  # nothing is placed where capacity is not believed
    for name in [*NONSENSE, "garbage", "a b", "empty"]:
        assert count_lines(told, f"server {name}: of its report is not believed: ") == 1, told.said()
    fleet.app.work.enqueue(1)
    fleet.app.other.enqueue(2)
    fleet.wait_run("work", 1)
    fleet.wait_run("other", 2)
    assert told.process.poll() is None and "Traceback" not in told.said()


def test_a_thousand_masters_that_start_at_once_have_their_rows_soon(fleet: Fleet) -> None:
    told = manager(fleet)
    wait_for(lambda: "reigns" in told.said(), told.said, START)
    assert fleet.redis is not None
    masters = fleet.start("support.masters", fleet.redis.url, "1000", environ={"PYTHONPATH": str(TESTS)})

    def rounds() -> list[list[str]]:
        return [line.split() for line in masters.out.read_text().splitlines()]

    def all_have_rows() -> bool:
        return bool(rounds()) and int(rounds()[-1][0]) == 1000 and int(rounds()[-1][1]) >= 1400

    wait_for(all_have_rows, lambda: f"{rounds()[-3:]}; {fleet.all_said()}", 60.0)
    assert max(float(longest) for _, _, longest in rounds()) < 2.0  # nobody blocks the queue server
    slots = Counter(queues for row in rows(fleet).values() for queues in row.slots)
    assert (slots["urgent",], slots["usual",]) == (400, 1000)
    assert len(told.said().splitlines()) < 40, told.said()
    masters.signal(signal.SIGKILL)
    masters.ended()


def test_clocks_that_are_wrong_by_an_hour_make_no_difference(fleet: Fleet) -> None:
    fleet.write_app(WORK)
    clocks = [moved_clock.create(fleet.folder / name) for name in ("ahead", "behind", "manager")]
    for move, seconds in zip(clocks, (3600.0, -3600.0, 1800.0), strict=True):
        move(seconds)

    def by(name: str) -> dict[str, str]:
        return {
            "PYTHONPATH": str(pathlib.Path(moved_clock.__file__).parent),
            "QSLOTS_TEST_CLOCK": str(fleet.folder / name),
        }

    told = fleet.start("qmanager", "run", environ={"QSLOTS_LOST_AFTER": "2s", **by("manager")})
    another(fleet, "ahead", by("ahead"))
    another(fleet, "behind", by("behind"))
    before = wait_rows(fleet, "ahead", "behind")
    fleet.app.work.enqueue(1)
    fleet.wait_run("work", 1)
    clocks[2](5400.0)  # and they jump
    wait_cycles(fleet, 3)
    assert rows(fleet).keys() == before.keys()
    assert count_lines(told, "lost") == count_lines(told, "silent at once") == 0, told.said()


# What people ask and say


def command(fleet: Fleet, *words: str) -> Program:
    """One that has ended."""
    program = fleet.start(*words)
    program.ended(START)
    return program


def test_a_dry_run_beside_the_manager_says_what_a_lost_server_would_cost_and_publishes_nothing(fleet: Fleet) -> None:
    fleet.write_app(WORK.replace("@task\ndef work", "@task(min_slots=2)\ndef work"))
    told = manager(fleet)
    fleet.start_master()
    another(fleet, "b")
    wait_rows(fleet, SERVER, "b")

    def at_rest() -> bool:
        return command(fleet, "qmanager", "plan").said().startswith("nothing changes; every queue has what it wants\n")

    wait_for(at_rest, lambda: command(fleet, "qmanager", "plan").said() + fleet.all_said(), START)
    told.signal(signal.SIGTERM)
    told.ended(START)
    before, seq = rows(fleet), published(fleet)
    found = json.loads(command(fleet, "qmanager", "plan", "--without", "b", "--json").out.read_text())
    assert (found["without"], found["rests_on"]["seq"]) == (["b"], seq)
    gone = next(each for each in found["servers"] if each["name"] == "b")
    assert (gone["there"], gone["after"], gone["before"]) == (False, 0, sum(map(bool, before["b"].slots)))
    work = next(each for each in found["queues"] if each["name"] == "work")
    assert work["after"] + work["short"] == work["wanted"] == 2
    nobody = command(fleet, "qmanager", "plan", "--without", "b", "--without", SERVER)
    assert "1 queue short: work" in nobody.said() and "queue work: 2 -> 0 slots, 2 short of 2" in nobody.said()
    wrong = command(fleet, "qmanager", "plan", "--without", "c")
    assert wrong.process.returncode == 1
    assert wrong.said() == f"qmanager: there is no server c: known here: b, {SERVER}\n"
    assert (rows(fleet), published(fleet)) == (before, seq)


# Keys and queue servers


def test_a_queue_with_damaged_keys_stops_no_other_and_counts_again_when_they_are_mended(fleet: Fleet) -> None:
    fleet.write_app(WORK)
    told = manager(fleet)
    fleet.start_master()
    wait_rows(fleet, SERVER)
    fleet.app.work.enqueue(1)
    fleet.wait_run("work", 1)
    counters = fleet.client.keys_of("work").part("counters")
    fleet.client.redis.rename(counters, "aside")
    fleet.client.redis.set(counters, "x")
    wait_for(lambda: count_lines(told, "queue work cannot be counted on main"), told.said, START)
    wait_cycles(fleet, 8)
    another(fleet, "b")
    wait_rows(fleet, SERVER, "b")
    fleet.app.other.enqueue(2)
    fleet.wait_run("other", 2)
    assert count_lines(told, "cannot be counted") == 1
    fleet.client.redis.rename("aside", counters)
    wait_for(lambda: count_lines(told, "queue work can be counted again on main"), told.said, START)
    assert told.process.poll() is None and "Traceback" not in told.said()


def test_a_control_key_that_is_damaged_is_told_of_once_and_the_manager_goes_on_when_it_is_mended(fleet: Fleet) -> None:
    fleet.write_app(WORK)
    told = manager(fleet)
    fleet.start_master()
    wait_rows(fleet, SERVER)
    fleet.client.redis.set(keys.PINS, "x")
    wait_for(lambda: count_lines(told, "WRONGTYPE"), told.said, START)
    fleet.app.work.enqueue(1)
    fleet.wait_run("work", 1)
    fleet.client.redis.delete(keys.PINS)
    wait_for(lambda: count_lines(told, "answers again"), told.said, START)
    wait_cycles(fleet, 2)
    assert count_lines(told, "WRONGTYPE") == 1


def test_an_emptied_queue_server_gets_the_whole_map_again(fleet: Fleet) -> None:
    fleet.write_app(WORK)
    told = manager(fleet)
    fleet.start_master()
    before = wait_rows(fleet, SERVER)[SERVER]
    fleet.client.redis.flushall()
    after = wait_rows(fleet, SERVER)[SERVER]
    assert (after.epoch, after.slots) == (before.epoch, before.slots)
    fleet.app.work.enqueue(1)
    fleet.wait_run("work", 1)
    fleet.client.redis.delete(keys.MAP)
    assert wait_rows(fleet, SERVER)[SERVER].slots == before.slots
    assert count_lines(told, "Traceback") == 0


def test_a_queue_server_that_was_killed_or_loads_is_waited_for_and_the_same_manager_goes_on(fleet: Fleet) -> None:
    fleet.write_app(WORK)
    told = manager(fleet)
    fleet.start_master()
    before = wait_rows(fleet, SERVER)[SERVER]
    redis = fleet.redis
    assert redis is not None and redis.process is not None
    fleet.client.redis.config_set("appendfsync", "always")
    redis.process.kill()
    redis.process.wait()
    wait_for(lambda: count_lines(told, "the last map stays in force"), told.said, START)
    redis.spawn()
    redis.wait_ready(lambda _: None)
    wait_for(lambda: count_lines(told, "the queue server answers again"), told.said, START)
    wait_cycles(fleet, 4)
    after = rows(fleet)[SERVER]
    assert (after.epoch, after.slots) == (before.epoch, before.slots)
    fleet.app.work.enqueue(1)
    fleet.wait_run("work", 1)
    assert count_lines(told, "the last map stays in force") <= 2, told.said()  # refused, and loading


class Relay:
    """A port that leads to a queue server, until it babbles: then it answers with what is not Redis."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._babbles = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}"

    def babble(self) -> None:
        self._babbles = True

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with contextlib.suppress(OSError), line, socket.socket(socket.AF_UNIX) as server:
            server.connect(self._path)
            while True:
                ready, _, _ = select.select([line, server], [], [])
                if self._babbles:
                    line.recv(65536)
                    line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"\xff" * 64)
                    return
                for one, other in ((line, server), (server, line)):
                    if one in ready:
                        said = one.recv(65536)
                        if not said:
                            return
                        other.sendall(said)


def test_a_queue_server_that_answers_garbage_stops_only_what_is_there(fleet: Fleet) -> None:
    fleet.write_app(WORK)
    second = fleet.spread("other")
    relay = Relay(str(second.folder / "redis.sock"))
    settings = json.loads((fleet.folder / "qslots.yml").read_text())
    settings["queue_servers"]["b"] = relay.url
    (fleet.folder / "relayed.yml").write_text(json.dumps(settings))
    fleet.start_master()
    told = fleet.start("qmanager", "run", environ={"QSLOTS_CONFIG": str(fleet.folder / "relayed.yml")})
    wait_rows(fleet, SERVER)
    relay.babble()
    wait_for(lambda: count_lines(told, "queue other cannot be counted on b"), told.said, START)
    another(fleet, "c")
    wait_for(lambda: rows(fleet).keys() == {SERVER, "c"}, fleet.all_said, START)
    fleet.app.work.enqueue(1)
    fleet.wait_run("work", 1)
    relay.close()
    assert told.process.poll() is None and "Traceback" not in told.said()
    assert count_lines(told, "does not speak as Redis") == 1


@pytest.mark.parametrize("words", [("work", "1"), ("work", "0")])
def test_a_pin_is_honoured_and_told_until_it_is_taken_back(fleet: Fleet, words: tuple[str, str]) -> None:
    fleet.write_app(WORK)
    manager(fleet)
    fleet.start_master()
    wait_rows(fleet, SERVER)

    run = partial(command, fleet, "qmanager.admin")

    def reason() -> dict[str, Any]:
        shown = json.loads(run("explain", words[0], "--json").out.read_text())
        return dict(shown)

    assert run("pin", *words).said().startswith(f"queue work is pinned to {words[1]} slot")
    words_of_pin = f"pinned to {words[1]} by `qslots pin`"
    wait_for(lambda: reason()["reason"].startswith(words_of_pin), fleet.all_said, START)
    planned = reason()
    assert planned["granted"] == int(words[1])
    assert (planned["pinned"], planned["min"], planned["max"]) == (int(words[1]), int(words[1]), int(words[1]))
    own = [queues for queues in rows(fleet)[SERVER].slots if queues == ("work",)]
    assert len(own) == int(words[1])
    assert run("unpin", "work").said().startswith(f"queue work is no longer pinned to {words[1]} slot")
    wait_for(lambda: "pinned" not in reason()["reason"], fleet.all_said, START)
    assert run("unpin", "work").said() == "queue work was not pinned\n"
    wrong = run("pin", "wrok", "2")
    assert (wrong.process.returncode, wrong.said()) == (1, "qslots: there is no queue wrok: did you mean work?\n")
    many = run("pin", "other", "100000")
    assert "of queue other: it cannot have more" in many.err.read_text() and many.process.returncode == 0
    assert run("pin", "work", "-1").process.returncode == 2
