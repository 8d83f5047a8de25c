"""What commands say of a fleet of which servers are silent, or report nonsense: only who is there counts."""

import json
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from support.holder import put

from qmanager.admin import cli as admin
from qslots import keys
from qslots.control import Control
from qslots.queueserver import QueueServer
from qslots.reports import Declared, HandlerDeclared, Periodic, QueueDeclared, Report

LIVING = Declared((QueueDeclared("mail", handlers=(HandlerDeclared("send"),)),))
OTHER = Declared((QueueDeclared("index"),))
NIGHTLY = HandlerDeclared("nightly", periodic=Periodic(every=60))
GONE = Declared((QueueDeclared("mail", handlers=(HandlerDeclared("old"), NIGHTLY)),))


@pytest.fixture
def control(server: QueueServer) -> Control:
    """Two servers that report, one of them without the queue mail; two that do not since a minute; one of nonsense."""
    found = Control(server)
    for name, declared in {"web-1": LIVING, "web-2": OTHER, "db-1": GONE, "db-2": LIVING}.items():
        found.report(report(name, declared), declared)
    server.redis.hset(keys.REPORTS, "odd", msgspec.msgpack.encode({"server": "odd", "max_slots": 9000}))
    now = found.heard().now
    server.redis.zadd(keys.SEEN, {"db-1": (now - 60) * 1e6, "db-2": (now - 60) * 1e6, "odd": now * 1e6})
    return found


def report(name: str, declared: Declared) -> Report:
    return Report(
        server=name, incarnation="i", host="h", pid=1, generation=1, declared=declared.digest(), budget=1000,
        max_slots=8, pss=1, free_memory=1, slot_size=100, slot_sizes={}, epoch=0, seq=0,
    )  # fmt: skip


def run(control: Control, *args: str, **environ: str) -> Result:
    return CliRunner(env=environ).invoke(admin.main, [*args, "--redis", control.server.url])


def document(control: Control, *args: str, **environ: str) -> Any:
    return json.loads(run(control, *args, "--json", **environ).stdout)


def test_the_fleet_is_who_is_there_and_can_be_planned_with(control: Control) -> None:
    control.server.redis.sadd(keys.QUEUES, "mail")
    fleet = document(control, "explain", "mail")["fleet"]
    assert (fleet["servers"], fleet["max_slots"]) == (2, 16)


def test_how_long_a_server_may_be_silent_is_said_by_the_settings(control: Control) -> None:
    control.server.redis.sadd(keys.QUEUES, "mail")
    assert document(control, "explain", "mail", QSLOTS_LOST_AFTER="90s")["fleet"]["servers"] == 4


def test_a_pin_is_more_than_the_servers_that_know_the_queue_can_carry(control: Control) -> None:
    control.server.redis.sadd(keys.QUEUES, "mail")
    assert run(control, "pin", "mail", "8").stderr == ""
    assert run(control, "pin", "mail", "9").stderr == (
        "qslots: the servers that report can carry 8 slots of queue mail: it cannot have more\n"
    )


def test_handlers_that_only_silent_servers_know_are_served_by_nobody(control: Control) -> None:
    put(control.server, "a", handler="old", queue="mail")
    put(control.server, "b", handler="send", queue="mail")
    [mail] = document(control, "queues")
    assert mail["unserved"] == {"old": 1}


def test_periodic_handlers_of_silent_servers_are_periodic_no_more(control: Control) -> None:
    assert document(control, "periodic") == []
    assert [each["handler"] for each in document(control, "periodic", QSLOTS_LOST_AFTER="90s")] == ["nightly"]
