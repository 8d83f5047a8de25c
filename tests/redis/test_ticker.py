"""Ticks on several queue servers, one of them away; schedules that change; what the command shows."""

import json
import logging
import math
import pathlib
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from support.holder import Holder, micros_now, put, report_loaded
from support.servers import RedisServer

import qslots.client
from qmanager.admin import cli as admin
from qmanager.schedules import AHEAD
from qmanager.ticker import Ticker
from qslots import ticks
from qslots.outcomes import Outcome
from qslots.periodic import Place, Step, Ticks, tick_id
from qslots.queueserver import QueueServer
from qslots.reports import Declared, HandlerDeclared, Periodic, QueueDeclared
from qslots.servers import QueueServers
from qslots.ticks import Seen

PLACES = {"spread": ("main", "b"), "far": ("b",)}
NEAR, FAR, SPREAD = ("near", "h"), ("far", "h"), ("spread", "h")
SECOND = Periodic(every=1)


@pytest.fixture
def servers(running: dict[str, RedisServer]) -> Iterator[QueueServers]:
    found = QueueServers({name: each.url for name, each in running.items()}, PLACES, name="test", timeout=1.0)
    yield found
    found.close()


def tasks(server: QueueServer, queue: str) -> set[str]:
    return {each.decode() for each in server.redis.hkeys(f"qs:{{{queue}}}:tasks")}


def known(server: QueueServer, place: Place) -> Ticks:
    found = ticks.read(server, [place])[1][0].ticks
    assert found is not None
    return found


def since(server: QueueServer, place: Place, periodic: Periodic, ago: int) -> int:
    """As if the last manager had gone so many seconds ago, and what it stored had run. Returns up to when that was."""
    until = micros_now(server) // 1_000_000 - ago
    assert ticks.store(server, place, periodic, Seen(b"", None), Step(until, until))
    return until


def test_each_tick_of_a_spread_queue_lives_on_the_home_of_its_id(servers: QueueServers) -> None:
    Ticker(servers).turn({NEAR: SECOND, FAR: SECOND, SPREAD: SECOND}, ())
    here, there = tasks(servers["main"], "spread"), tasks(servers["b"], "spread")
    assert len(here | there) == len(here) + len(there) >= AHEAD and here and there
    assert all(servers.home("spread", task) == "main" for task in here)
    assert len(tasks(servers["main"], "near")) == len(tasks(servers["b"], "far")) == AHEAD
    assert not tasks(servers["b"], "near") | tasks(servers["main"], "far")


def test_ticks_that_must_not_overlap_live_together(servers: QueueServers) -> None:
    alone = Periodic(every=1, overlap=False)
    for _ in range(3):
        Ticker(servers).turn({SPREAD: alone}, ())
    home, other = ("main", "b") if servers.home("spread", "h") == "main" else ("b", "main")
    assert len(tasks(servers[home], "spread")) == 1
    assert tasks(servers[other], "spread") == set()


def test_ticks_of_a_server_that_is_away_wait_for_it_and_come_once(
    servers: QueueServers, running: dict[str, RedisServer]
) -> None:
    every = Periodic(every=1, catch_up="all")
    begun = since(servers["main"], SPREAD, every, 20)
    assert since(servers["b"], SPREAD, every, 20) - begun in (0, 1)
    ticker = Ticker(servers)
    running["b"].send(signal.SIGSTOP)
    ticker.turn({SPREAD: every}, ())
    ticker.turn({SPREAD: every}, {"b"})
    before = tasks(servers["main"], "spread")
    running["b"].send(signal.SIGCONT)
    assert before and tasks(servers["b"], "spread") == set()
    for _ in range(2):
        ticker.turn({SPREAD: every}, ())
        Ticker(servers).turn({SPREAD: every}, ())
    after = tasks(servers["main"], "spread") | tasks(servers["b"], "spread")
    last = min(known(servers[name], SPREAD).cursor for name in ("main", "b"))
    assert {tick_id("h", instant) for instant in range(begun + 2, last)} <= after
    assert before <= after and not tasks(servers["main"], "spread") & tasks(servers["b"], "spread")


def test_a_server_that_does_not_answer_holds_nobody_up(servers: QueueServers, running: dict[str, RedisServer]) -> None:
    running["b"].stop()
    Ticker(servers).turn({NEAR: SECOND, FAR: SECOND}, ())
    assert len(tasks(servers["main"], "near")) == AHEAD


def test_one_handler_that_cannot_be_served_is_told_once_and_holds_nobody_up(
    servers: QueueServers, caplog: pytest.LogCaptureFixture
) -> None:
    ticker = Ticker(servers)
    servers["main"].redis.set("qs:{bad}:schedule:h", "no sorted set")
    strange = {
        ("nowhere", "h"): Periodic(cron="0 3 * * *", tz="Atlantis/Capital"),
        ("never", "h"): Periodic(),
        ("whenever", "h"): Periodic(cron="now and then"),
    }
    with caplog.at_level(logging.WARNING, "qmanager"):
        for _ in range(2):
            ticker.turn({("bad", "h"): SECOND, **strange, NEAR: SECOND}, ())
    assert len(tasks(servers["main"], "near")) >= AHEAD
    told = sorted(record.args[1] for record in caplog.records if record.args)  # type: ignore[index]
    assert told == ["bad", "never", "nowhere", "whenever"]


def test_another_schedule_neither_doubles_nor_loses_a_tick(servers: QueueServers) -> None:
    ticker, server = Ticker(servers), servers["main"]
    ticker.turn({NEAR: Periodic(every=2)}, ())
    old = tasks(server, "near")
    ticker.turn({NEAR: SECOND}, ())
    assert old < tasks(server, "near")
    ticker.turn({NEAR: Periodic(every=2)}, ())
    now = math.floor(micros_now(server) / 1e6)
    new = tasks(server, "near")
    assert {tick_id("h", instant) for instant in range(now + 2, now + AHEAD - 2) if instant % 2 == 0} <= new
    assert {tick_id("h", instant) for instant in range(now + 2, now + AHEAD) if instant % 2} & new == set()


def test_handler_that_nobody_declares_is_withdrawn_and_made_up_for_when_it_is_back(servers: QueueServers) -> None:
    ticker, server = Ticker(servers), servers["main"]
    every = Periodic(every=1, catch_up="all")
    ticker.turn({NEAR: every}, ())
    first = known(server, NEAR).waiting[0]
    ticker.turn({}, ())
    assert len(tasks(server, "near")) <= 1
    assert known(server, NEAR).waiting in ((), (first,))
    Ticker(servers).turn({NEAR: every}, ())
    assert tasks(server, "near") >= {tick_id("h", first + offset) for offset in range(AHEAD - 1)}


def test_handler_that_is_gone_is_withdrawn_from_a_server_that_was_away_when_it_is_back(servers: QueueServers) -> None:
    ticker = Ticker(servers)
    ticker.turn({SPREAD: SECOND}, ())
    ticker.turn({}, {"b"})
    assert len(tasks(servers["main"], "spread")) <= 2 < len(tasks(servers["b"], "spread"))
    ticker.turn({}, ())
    assert len(tasks(servers["b"], "spread")) <= 2


# The command


@pytest.fixture
def named(server: QueueServer, monkeypatch: pytest.MonkeyPatch) -> QueueServer:
    """The command's queue server."""
    monkeypatch.setenv("QSLOTS_REDIS", server.url)
    monkeypatch.setattr(qslots.client, "_current", None)
    return server


def declare(server: QueueServer, **handlers: Periodic | None) -> None:
    named = tuple(HandlerDeclared(name, periodic=periodic) for name, periodic in handlers.items())
    report_loaded(server, Declared((QueueDeclared("mail", handlers=named),)))


def shown(*words: str) -> Any:
    result = CliRunner().invoke(admin.main, [*words, "--json"])
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return json.loads(result.stdout)


def test_periodic_handlers_are_shown_with_what_came_of_their_last_tick(named: QueueServer) -> None:
    hourly, other = Periodic(every=3600), Periodic(cron="0 3 * * *", tz="Europe/Moscow", catch_up="skip", overlap=False)
    declare(named, report=hourly, other=other, plain=None)
    now = micros_now(named) // 1_000_000
    [fresh, row] = shown("periodic")
    assert (fresh["handler"], fresh["schedule"], fresh["last"], fresh["state"]) == (
        "other", "0 3 * * * Europe/Moscow", None, None,
    )  # fmt: skip
    assert (fresh["catch_up"], fresh["overlap"]) == ("skip", False)
    page = (pathlib.Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    documented = next(line for line in page.splitlines() if line.startswith("| `periodic` | "))
    assert re.findall(r"\w+", documented.split("`")[3]) == list(row)
    assert row["next"] % 3600 == 0 and now < row["next"] <= now + 3601
    since(named, ("mail", "report"), hourly, 2 * 3600)
    servers = QueueServers({"main": named.url}, {}, name="test")
    Ticker(servers).turn({("mail", "report"): hourly}, ())
    slot, states = Holder(named, "s", queue="mail"), []
    for act in (lambda: None, lambda: slot.work({"report": 1}), lambda: slot.settle({1: Outcome("bury", "why")})):
        act()
        row = shown("periodic")[1]
        states.append(row["state"])
    assert states == ["enqueued", "processing", "fatal_failure"]
    assert row["last"] % 3600 == 0 and now - 3600 < row["last"] <= now
    assert (row["missed"], row["dropped"]) == (1, 0)
    named.redis.delete("qs:{mail}:tasks")
    assert shown("periodic")[1]["state"] == "done"
    assert shown("queue", "show", "mail")["periodic"] == shown("periodic")
    table = CliRunner().invoke(admin.main, ["periodic"]).stdout
    assert "every 1h" in table and "ago" in table and "in " in table
    servers.close()


def test_without_periodic_handlers_the_command_says_how_one_is_made(named: QueueServer) -> None:
    assert shown("periodic") == []
    assert "@task(every=" in CliRunner().invoke(admin.main, ["periodic"]).stdout
    put(named, "a", queue="mail")
    assert shown("queue", "show", "mail")["periodic"] == []
