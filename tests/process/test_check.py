"""`qmaster check`, and what a mold tells its master: real applications with what a fork does not bear.

The fleet looks at its end for whatever a check may have left behind.
"""

import json
import pathlib
import re
import signal
from typing import Any

import pytest
from process.fleet import PACK, PRELUDE, START, Fleet
from support.waiting import wait_for

from qslots.hooks import HOOKS, Hooks

DOCUMENT = (pathlib.Path(__file__).parents[2] / "docs" / "commands.md").read_text()
CHECK = ("qmaster", "check", "--app", "shop")
UNSAFE = """\
import gc
import socket
import sqlite3
import threading

gc.enable()
held = threading.Lock()
held.acquire()
listener = socket.create_server(("127.0.0.1", 0))
spoken = socket.create_connection(listener.getsockname())
db = sqlite3.connect(HERE / "prices.db")
print("imported")


@task(queue="mail", priority=80, batch=7)
def work(n: int) -> None:
    import colorsys
"""
NATIVE = """\
import ctypes

libc = ctypes.CDLL(None)
libc.pthread_create(ctypes.byref(ctypes.c_ulong()), None, ctypes.cast(libc.pause, ctypes.c_void_p), None)


"""
CONNECTED = (
    PACK
    + """

import redis

work.enqueue(1)
other = redis.Redis.from_url(os.environ["QSLOTS_REDIS"])
other.ping()
"""
)
STRAY = """\
import subprocess
import sys

NEXT = "import subprocess; subprocess.run(['sleep', '100'], start_new_session=True)"
stray = subprocess.Popen([sys.executable, "-c", NEXT], start_new_session=True)
while not pathlib.Path(f"/proc/{stray.pid}/task/{stray.pid}/children").read_text():
    time.sleep(0.01)


"""
WARM = """\
from qslots import hooks


@hooks.warm_up
def fill() -> None:
    note("warm")


@task
def work(n: int) -> None:
    note("begin", n)
"""


@pytest.fixture(autouse=True)
def no_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test's own import of an application registers is forgotten."""
    for name in vars(Hooks()):
        monkeypatch.setattr(HOOKS, name, [])


def write(fleet: Fleet, source: str) -> None:
    """The application, which is not imported here: it would leave its traces in this process."""
    (fleet.folder / "shop.py").write_text(PRELUDE + source)


def checked(fleet: Fleet, *words: str, code: int = 0) -> dict[str, Any]:
    program = fleet.start(*CHECK, "--json", *words)
    assert program.ended(START) == code, program.said()
    document: dict[str, Any] = json.loads(program.out.read_text())
    return document


def findings(document: dict[str, Any]) -> dict[str, str]:
    return {each["kind"]: each["where"] for each in document["mold"]["findings"]}


def test_an_application_in_good_order(fleet: Fleet) -> None:
    write(fleet, PACK)
    found = checked(fleet, "--strict")
    documented = DOCUMENT.partition("`qmaster check --json`")[2]
    assert list(found) == re.findall(r"^\| `(\w+)` \|", documented, re.MULTILINE)
    for key in ("slot", "capacity"):
        row = next(line for line in documented.splitlines() if line.startswith(f"| `{key}` | "))
        assert set(found[key]) == set(re.findall(r"\w+", row.split("`")[3]))
    assert found["warnings"] == []
    assert found["mold"]["findings"] == found["late_imports"] == []
    assert found["mold"]["modules"] > 100 and found["mold"]["pss"] > 1 << 20
    assert [each["checked"] for each in found["queue_servers"]] == [True]
    (queue,) = found["queues"]
    (handler,) = queue["handlers"]
    shop = str(fleet.folder / "shop.py")
    assert queue["settings"]["lock"]["value"] == 60.0
    assert queue["settings"]["lock"]["source"] == handler["where"]
    assert queue["settings"]["priority"] == {"value": 50, "source": "default"}
    assert handler["where"].startswith(f"{shop}:")
    assert handler["settings"]["batch"] == {"value": 4, "source": handler["where"]}
    assert handler["settings"]["backoff"]["value"] == "0.1s..0.1s"
    slot, capacity = found["slot"], found["capacity"]
    assert 0 < slot["size"] < found["mold"]["pss"] and 0 < slot["seconds"] < START
    assert 0 < capacity["slots"] < capacity["slots_at_best"]


def test_what_a_fork_does_not_bear_is_told_of_by_check_and_by_the_master(fleet: Fleet) -> None:
    write(fleet, UNSAFE)
    (fleet.folder / "qslots.yml").write_text("queues: {mial: {priority: 7}, mail: {min_slots: 2}}\n")
    fleet.environ["QSLOTS_CONFIG"] = str(fleet.folder / "qslots.yml")
    found = checked(fleet)
    assert findings(found).keys() == {"collector", "connection", "held lock", "socket", "listening socket"}
    assert findings(found)["connection"] == "shop.db"
    assert findings(found)["held lock"] == "shop.held"
    line = next(
        n for n, text in enumerate((fleet.folder / "shop.py").read_text().splitlines(), 1) if "colorsys" in text
    )
    assert found["late_imports"] == [{"where": f"shop.py:{line}", "module": "colorsys", "function": "work"}]
    assert "queues.mial of the settings: no handler serves it; did you mean mail?" in found["warnings"]
    assert found["queues"][0]["settings"]["min_slots"] == {"value": 2, "source": "settings"}
    checked(fleet, "--strict", code=1)

    fleet.publish(("mail",))
    master = fleet.start_master()
    fleet.slots(1)
    assert findings(fleet.status()).keys() == findings(found).keys()
    assert "mold gen 1: must fix: a lock is held (shop.held): release it" in master.said()
    assert "mold gen 1: closed for you: the garbage collector was switched on" in master.said()
    assert "know:" not in master.said()


def test_connections_to_queue_servers_are_closed_and_those_of_redis_py_are_known(fleet: Fleet) -> None:
    write(fleet, CONNECTED)
    assert findings(checked(fleet, "--strict")) == {"own connections": "", "redis": ""}
    fleet.publish(("work",), ("work",))
    fleet.start_master()
    wait_for(lambda: fleet.runs("end", 1), fleet.all_said, START)


def test_people_read_the_same(bare_fleet: Fleet) -> None:
    write(bare_fleet, UNSAFE)
    program = bare_fleet.start(*CHECK, environ={"COLUMNS": "200"})
    assert program.ended(START) == 0, program.said()
    out = program.out.read_text()
    wanted = [
        "priority=80 batch=7", "must fix: a lock is held (shop.held)", "inside work(): preload it", "private + ",
        "no queue server is named", "My World's formula", "shop: it can be served, 4 to mend",
    ]  # fmt: skip
    for said in wanted:
        assert said in out, out
    assert program.err.read_text() == "imported\n"


def test_a_queue_server_that_is_away_is_not_checked(bare_fleet: Fleet) -> None:
    write(bare_fleet, PACK.replace("batch=4", 'batch=4, durability="fsync"'))
    (server,) = checked(bare_fleet, "--redis", "redis://127.0.0.1:1", "--strict")["queue_servers"]
    assert not server["checked"] and "127.0.0.1:1" in server["why"]


def test_what_cannot_be_served_is_one_line_and_exit_1(fleet: Fleet) -> None:
    thread = "import threading\nthreading.Thread(target=gate, args=('open',), name='pump', daemon=True).start()\n"
    warm = WARM.replace('note("warm")', '{}["price"]')
    apps = {
        "pump": (thread + PACK, "started threads while it was imported (pump ("),
        "broken": ("import nowhere_to_be_found\n", "broken.py:"),
        "cold": (warm, "hook warm_up: fill raised KeyError: 'price' ("),
        "aborts": ("os.abort()\n", "SIGABRT"),
        "promise": (PACK.replace("batch=4", 'durability="replicated(7)"'), "cannot keep durability replicated(7, 1s)"),
    }
    apps["native"] = (NATIVE + PACK, "started threads while it was imported (without a name)")
    started = {}
    for name, (source, _) in apps.items():
        write(fleet, source)
        (fleet.folder / "shop.py").rename(fleet.folder / f"{name}.py")
        started[name] = fleet.start("qmaster", "check", "--app", name)
    for name, (_, said) in apps.items():
        assert started[name].ended(START) == 1, name
        (line,) = started[name].err.read_text().splitlines()
        assert line.startswith("qmaster: ") and said in line, line
        assert started[name].out.read_text() == ""


def test_a_queue_server_that_evicts_is_refused(fleet: Fleet) -> None:
    write(fleet, PACK)
    fleet.client.redis.config_set("maxmemory-policy", "allkeys-lru")
    program = fleet.start(*CHECK)
    assert program.ended(START) == 1
    assert "set maxmemory-policy noeviction" in program.err.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_it_is_ended_in_the_middle(bare_fleet: Fleet, number: int) -> None:
    helper = "import subprocess\nsubprocess.Popen(['sleep', '100'])\n" if number != signal.SIGKILL else ""
    write(bare_fleet, f"{helper}note('importing')\ngate('never')\n")
    before = {path.name for path in bare_fleet.folder.iterdir()}
    program = bare_fleet.start(*CHECK)
    wait_for(lambda: bare_fleet.runs("importing"), program.said, START)
    program.signal(number)
    assert program.ended(START) != 0
    wait_for(
        lambda: not pathlib.Path(f"/proc/{bare_fleet.runs('importing')[0].pid}").exists(), "the mold is left", START
    )
    left = {path.name for path in bare_fleet.folder.iterdir()} - before - {program.out.name, program.err.name}
    assert left <= {"runs", "__pycache__"}


def test_a_helper_that_the_application_starts_ends_with_the_check(bare_fleet: Fleet) -> None:
    write(bare_fleet, STRAY + PACK)
    assert findings(checked(bare_fleet)) == {"child process": ""}


def test_warm_up_runs_once_in_the_mold(fleet: Fleet) -> None:
    fleet.launch(WARM, ("work",), ("work",))
    fleet.app.work.enqueue_many([(n,) for n in range(5)])
    wait_for(lambda: len(fleet.runs("begin")) == 5, fleet.all_said, START)
    (warm,) = fleet.runs("warm")
    assert warm.pid not in {slot["pid"] for slot in fleet.live()}
