"""``qslots explain``, ``pin`` and ``unpin`` on a real queue server: every number, its age, and what cannot be."""

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from qmanager import cli
from qmanager.admin import cli as admin
from qslots import keys
from qslots.control import Control
from qslots.queueserver import QueueServer
from qslots.reports import Declared, HandlerDeclared, MapRow, Plan, QueueDeclared, QueuePlan, Report, SlotReport, pack

PLANNED = QueuePlan(
    "mail", 80, 1, None, 2.5, 2.0, 1.25, 30.0, 31.0, 0.05, "31/s of 0.05 s at 80% busy = 1.94; short of slots: 2 of 3",
    target_delay=2.0, p95=0.2, slots=2, need=3, kept=4, peak=3.6, window=220.0, dead_band=0.08, waits=1.5, away=1,
    haste=0.5,
)  # fmt: skip
SHARED = QueuePlan(
    "index", 50, 0, 5, 0.1, 0.5, None, 0.0, 0.0, None, "nothing to do; shares a slot with 1 other", slots=1,
    shares=("rest",),
)  # fmt: skip

DECLARED = Declared((QueueDeclared("mail"), QueueDeclared("index")))


@pytest.fixture
def control(server: QueueServer) -> Control:
    return Control(server)


def publish(control: Control, age: float = 0.0) -> None:
    now = control.heard().now
    control.server.redis.set(keys.PLAN, pack(Plan(7, 3, "web-1/33", now - age, (PLANNED, SHARED))))
    row = MapRow(7, 3, "web-1/33", (("mail",), ("mail",), ("index", "rest")))
    control.server.redis.hset(keys.MAP, mapping={"web-1": pack(row), "web-2": pack(MapRow(7, 3, "m", (("mail",), ())))})
    report = Report(
        server="web-1", incarnation="i", host="h", pid=1, generation=1, declared=DECLARED.digest(), budget=1000,
        max_slots=8, pss=1, free_memory=1, slot_size=100, slot_sizes={"mail": 300}, epoch=7, seq=3,
    )  # fmt: skip
    control.report(report, DECLARED)


def run(control: Control, *args: str) -> Result:
    return CliRunner().invoke(admin.main, [*args, "--redis", control.server.url])


def explained(control: Control, name: str) -> Any:
    result = run(control, "explain", name, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def test_every_number_between_arrivals_and_map_is_there(control: Control) -> None:
    publish(control)
    found = explained(control, "mail")
    behind = {
        "slots": 2, "shares": [], "need": 3, "kept": 4, "peak": 3.6, "window": 220.0, "dead_band": 0.08, "waits": 1.5,
        "away": 1, "haste": 0.5,
    }  # fmt: skip
    assert (
        found.items()
        >= {**behind, "target_delay": 2.0, "p95": 0.2, "wanted": 2.5, "granted": 2.0, "pinned": None}.items()
    )
    assert (found["placed"], found["fleet"]) == (
        {"web-1": 2, "web-2": 1}, {"servers": 1, "max_slots": 8, "used": 4}
    )  # fmt: skip
    assert {key: found["plan"][key] for key in ("epoch", "seq", "manager")} == {
        "epoch": 7, "seq": 3, "manager": "web-1/33",
    }  # fmt: skip
    assert 0 <= found["plan"]["age"] < 5


def test_people_read_it_from_top_to_bottom(control: Control) -> None:
    publish(control)
    control.pin("mail", 4)
    lines = {
        line.split("  ")[0]: " ".join(line.split()) for line in run(control, "explain", "mail").stdout.splitlines()
    }
    assert lines["asked for"] == "asked for priority 80, min 1, max ·, target delay 2.0s"
    assert lines["pinned"] == "pinned to 4 slots"
    assert lines["arrivals"] == "arrivals 31/s of 50ms = 2.1 slots at 74% busy; 30/s done"
    assert lines["run time"] == "run time 50ms a task, 200ms or less a pack in 19 of 20 times"
    assert lines["load"] == "load 125% of its slots' time, backlog included"
    assert lines["kept"] == (
        "kept 3 slots by what is wanted now or was within 22s, 4 by the peak of 3.6 within 3m 40s; "
        "changes below 8% are let be"
    )
    assert lines["granted"] == "granted 2 slots of its own"
    assert lines["placed"] == "placed web-1: 2, web-2: 1"
    assert lines["fleet"] == "fleet 1 server, at most 8 slots, 4 in use"
    assert lines["plan"].startswith("plan 7.3 by web-1/33, ")
    assert "granted  1 slot shared with rest" in run(control, "explain", "index").stdout.replace("    ", "  ")


def test_a_plan_that_nobody_renews_is_shown_with_its_age(control: Control) -> None:
    publish(control, age=3700.0)
    result = run(control, "explain", "mail")
    assert result.exit_code == 0
    assert "the plan is 1h 1m old: no manager has published since; is `qmanager run` at work?" in result.stderr
    assert "3.3 by" not in result.stdout and "1h 1m ago" in result.stdout


def test_a_queue_of_which_no_plan_knows_is_explained_as_far_as_that_goes(control: Control) -> None:
    control.server.redis.sadd(keys.QUEUES, "new")
    found = explained(control, "new")
    assert (found["plan"], found["need"], found["placed"]) == (None, None, {})
    told = run(control, "explain", "new").stdout
    assert "no manager has looked at this queue yet" in told and "· or less in" not in told


@pytest.mark.parametrize("command", [("explain", "mial"), ("pin", "mial", "3"), ("unpin", "mial")])
def test_a_queue_that_is_not_there_is_refused_with_the_nearest_name(control: Control, command: tuple[str, ...]) -> None:
    publish(control)
    result = run(control, *command)
    assert (result.exit_code, result.stderr) == (1, "qslots: there is no queue mial: did you mean mail?\n")
    assert control.pins() == {}


def test_a_pin_is_stored_told_and_taken_back(control: Control) -> None:
    publish(control)
    result = run(control, "pin", "mail", "3")
    assert (result.stdout, result.stderr) == ("queue mail is pinned to 3 slots from the next plan on\n", "")
    assert json.loads(run(control, "pin", "index", "0", "--json").stdout) == {"queue": "index", "pinned": 0}
    assert control.pins() == {"mail": 3, "index": 0}
    assert run(control, "unpin", "mail").stdout == "queue mail is no longer pinned to 3 slots\n"
    assert run(control, "unpin", "mail").stdout == "queue mail was not pinned\n"
    assert json.loads(run(control, "unpin", "index", "--json").stdout) == {"queue": "index", "pinned": None}
    assert control.pins() == {}


def test_a_pin_beyond_what_the_servers_can_carry_is_told(control: Control) -> None:
    publish(control)
    result = run(control, "pin", "mail", "4")  # of 300 bytes each: three fit
    assert result.exit_code == 0
    assert result.stderr == "qslots: the servers that report can carry 3 slots of queue mail: it cannot have more\n"


def test_a_pin_of_a_queue_that_is_gone_can_be_taken_back(control: Control) -> None:
    control.pin("gone", 2)
    assert run(control, "unpin", "gone").exit_code == 0
    assert control.pins() == {}


def test_tab_completes_servers_that_are_to_be_thought_away(control: Control) -> None:
    publish(control)
    runner = CliRunner(env={
        "_QMANAGER_COMPLETE": "bash_complete", "COMP_CWORD": "5", "QSLOTS_REDIS": control.server.url,
        "COMP_WORDS": f"qmanager plan --redis {control.server.url} --without w",
    })  # fmt: skip
    assert runner.invoke(cli.main, [], prog_name="qmanager").stdout.split() == ["plain,web-1"]


def test_a_dry_run_begins_with_what_slots_serve_where_the_map_has_no_row(control: Control) -> None:
    declared = Declared((QueueDeclared("mail", handlers=(HandlerDeclared("send"),)),))
    slots = tuple(SlotReport(index, 7 + index, 1, "idle", ("mail",)) for index in range(2))
    control.report(
        Report(
            server="web-1", incarnation="i", host="h", pid=1, generation=1, declared=declared.digest(), budget=1000,
            max_slots=8, pss=1, free_memory=1, slot_size=100, slot_sizes={}, epoch=7, seq=3, slots=slots,
        ), declared,
    )  # fmt: skip
    planned = QueuePlan("mail", 80, 0, None, 2.0, 2.0, 0.5, 3.0, 3.0, 0.05, "", slots=2, need=2, kept=2, peak=2.0)
    control.server.redis.set(keys.PLAN, pack(Plan(7, 3, "m", control.heard().now, (planned,), (declared.digest(),))))
    result = CliRunner().invoke(cli.main, ["plan", "--json", "--redis", control.server.url])
    found = json.loads(result.stdout)
    assert (found["changes"], found["servers"]) == (
        [], [{"name": "web-1", "before": 2, "after": 2, "there": True, "changed": 0}]
    )  # fmt: skip
