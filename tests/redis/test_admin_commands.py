"""``qslots queue`` and ``qslots task`` on a real queue server: what they change, what they say, what they refuse."""

import json
import os
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from support import holder
from support.holder import Holder

import qslots.client
from qmanager import admin, views
from qslots import Queue, embedded, settings
from qslots.keys import QUEUES
from qslots.queueserver import QueueServer


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with embedded.start(tmp_path_factory.mktemp("r") / "r", lambda _: None) as found:
        yield found


@pytest.fixture
def server(running: embedded.Embedded, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty queue server that commands find without being told."""
    for name in (*settings.ENVIRONMENT, "QSLOTS_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("QSLOTS_REDIS", running.url)
    monkeypatch.setattr(qslots.client, "_current", None)
    client = QueueServer(running.url, name="test")
    client.redis.flushall()
    yield client
    client.close()


def put(server: QueueServer, *ids: str, queue: str = "mail", **how: str) -> None:
    body = msgspec.msgpack.encode({"to": "a@b", "size": 1})
    holder.put(server, *ids, handler="send", queue=queue, body=body, own_ids=True, **how)


def run(*args: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(admin.main, args, input=answer)


def said(*args: str, answer: str | None = None) -> str:
    """The one line of a success."""
    result = run(*args, answer=answer)
    assert (result.exit_code, result.stdout.count("\n")) == (0, 1), result.output
    return result.stdout.strip()


def refused(*args: str, code: int = 1) -> str:
    """The one line of a failure."""
    result = run(*args)
    assert (result.exit_code, result.stderr.count("\n")) == (code, 1), result.output
    assert result.stderr.startswith("qslots: ")
    return result.stderr.strip()


def document(*args: str) -> Any:
    result = run(*args, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


# One queue


def test_one_queue_is_shown_with_counts_counters_servers_and_handlers(server: QueueServer) -> None:
    put(server, "a", "b", "c")
    put(server, "later", when="+60000000")
    Holder(server, "s", queue="mail").take({"send": 1})
    one = document("queue", "show", "mail")
    assert (one["active"], one["inactive"], one["locked"], one["paused"]) == (2, 1, 1, False)
    assert (one["counters"]["put"], one["counters"]["taken"], one["handlers"]) == (4, 1, ["send"])
    assert [(each["name"], each["answers"], each["active"]) for each in one["servers"]] == [("main", True, 2)]
    assert "not in the plan" in run("queue", "show", "mail").stdout


@pytest.mark.parametrize("command", ["show", "pause", "resume", "drop"])
def test_a_queue_that_is_not_there_is_told_with_the_nearest_name(server: QueueServer, command: str) -> None:
    put(server, "a")
    assert "did you mean mail?" in refused("queue", command, "mial")


def test_a_paused_queue_says_so_until_it_goes_on(server: QueueServer) -> None:
    put(server, "a", "b")
    assert said("queue", "pause", "mail") == "queue mail is paused"
    one = document("queue", "show", "mail")
    assert (one["paused"], one["takeable"], one["gates"]) == (True, 0, ["queue"])
    assert "(paused)" in run("queues").stdout
    assert said("queue", "resume", "mail").startswith("queue mail goes on")
    assert document("queue", "show", "mail")["takeable"] == 2


@pytest.mark.parametrize(("option", "name"), [("--collection", "spring"), ("--handler", "send")])
def test_a_part_of_a_queue_is_held_back_alone(server: QueueServer, option: str, name: str) -> None:
    put(server, "a", collection="spring")
    what = f"{option.strip('-')} {name}"
    assert said("queue", "pause", "mail", option, name) == f"{what} of queue mail is paused"
    one = document("queue", "show", "mail")
    assert (one["paused"], one["gates"]) == (False, [what.replace(" ", ":")])
    assert said("queue", "resume", "mail", option, name).startswith(f"{what} of queue mail goes on")
    assert document("queue", "show", "mail")["gates"] == []


def test_collection_and_handler_at_once_are_wrong_usage(server: QueueServer) -> None:
    put(server, "a")
    assert run("queue", "pause", "mail", "--collection", "c", "--handler", "h").exit_code == 2


def test_drop_asks_and_drops_only_when_told(server: QueueServer) -> None:
    put(server, *(f"t{n}" for n in range(2500)))
    result = run("queue", "drop", "mail", answer="n\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "drop 2,500 tasks of queue mail for good? [y/N]" in result.stderr
    assert "nothing was dropped" in result.stderr
    assert "give --yes" in run("queue", "drop", "mail").stderr, "nobody is there to answer"
    assert Queue("mail").stats().active == 2500
    assert said("queue", "drop", "mail", answer="y\n") == "queue mail: 2,500 tasks dropped"
    assert Queue("mail").stats().active == 0


def test_drop_of_a_collection_leaves_the_others(server: QueueServer) -> None:
    put(server, "a")
    put(server, "b", collection="spring")
    assert said("queue", "drop", "mail", "--collection", "spring", "--yes") == (
        "collection spring of queue mail: 1 task dropped"
    )
    assert [info.id for info in Queue("mail").find()] == ["a"]


# Tasks


def test_a_task_is_found_by_its_id_in_whatever_queue(server: QueueServer) -> None:
    put(server, "a")
    put(server, "b", queue="index", collection="spring")
    shown = document("task", "show", "b")
    assert (shown["id"], shown["queue"], shown["handler"], shown["state"]) == ("b", "index", "send", "enqueued")
    assert (shown["collection"], shown["kwargs"]) == ("spring", {"to": "a@b", "size": 1})
    assert "index on main" in run("task", "show", "b").stdout


def test_a_task_that_is_nowhere_or_in_two_places_is_an_error(server: QueueServer) -> None:
    put(server, "a")
    put(server, "a", queue="index")
    assert "no queue has it" in refused("task", "show", "x")
    assert "queue mail has no such task" in refused("task", "show", "x", "--queue", "mail")
    for command in (("show",), ("delete",), ("move", "--in", "1m")):
        result = run("task", command[0], "a", *command[1:])
        assert (result.exit_code, "in queues index, mail: say which" in result.stderr) == (1, True)
    assert document("task", "show", "a", "--queue", "index")["queue"] == "index"


def test_find_lists_a_line_each_or_one_document(server: QueueServer) -> None:
    put(server, *(f"a{n}" for n in range(20)))
    put(server, "b", queue="index", when="+60000000", collection="spring")
    assert len(run("task", "find").stdout.splitlines()) == 21
    assert len(document("task", "find", "--limit", "7")) == 7
    assert "did you mean mail?" in refused("task", "find", "--queue", "mial")
    for option in (("--state", "new"), ("--collection", "spring"), ("--queue", "index"), ("--text", "b")):
        assert "b" in [task["id"] for task in document("task", "find", *option)], option
    assert "due in" in run("task", "find", "--state", "NEW").stdout


@pytest.mark.usefixtures("server")
def test_find_that_finds_nothing_prints_nothing() -> None:
    assert run("task", "find").output == ""
    assert document("task", "find") == []


def test_a_task_is_moved_by_the_servers_clock(server: QueueServer) -> None:
    put(server, "a")
    now = views.clock(server)
    assert said("task", "move", "a", "--in", "10m").startswith("task a of queue mail is due ")
    assert 600 <= document("task", "show", "a")["due_at"] - now < 605
    said("task", "move", "a", "--at", "1900000000")
    assert document("task", "show", "a")["due_at"] == 1_900_000_000


def test_a_task_is_buried_with_its_reason_and_kicked_alive(server: QueueServer) -> None:
    put(server, "a", "b", "c")
    assert said("task", "bury", "a", "--why", "the mailbox is full") == "task a of queue mail is buried"
    shown = document("task", "show", "a")
    assert (shown["state"], shown["last_error"]) == ("fatal_failure", "the mailbox is full")
    said("task", "bury", "b")
    assert said("task", "kick", "a") == "1 kicked"
    assert document("task", "show", "a")["state"] == "enqueued"
    assert said("task", "kick", "--queue", "mail", "--count", "5") == "queue mail: 1 of 5 kicked"
    assert Queue("mail").stats().buried == 0


def test_what_fails_among_many_is_told_and_the_rest_is_done(server: QueueServer) -> None:
    put(server, "a", "b")
    result = run("task", "delete", "a", "x", "b")
    assert (result.exit_code, result.stdout) == (1, "2 deleted\n")
    assert result.stderr.startswith("qslots: task x: no queue has it")
    assert Queue("mail").stats().active == 0


def test_named_arguments_are_changed_and_others_stay(server: QueueServer) -> None:
    put(server, "a")
    assert said("task", "update", "a", "size=64") == "task a of queue mail has size changed"
    assert document("task", "show", "a")["kwargs"] == {"to": "a@b", "size": 64}


def test_a_task_that_is_locked_is_refused_in_one_line(server: QueueServer) -> None:
    put(server, "a")
    Holder(server, "s", queue="mail").take({"send": 1})
    for command in (("move", "a", "--in", "1m"), ("bury", "a"), ("update", "a", "size=2")):
        refused("task", *command)


# What they have in common


def test_the_url_of_the_command_line_counts_for_what_acts_too(
    server: QueueServer, running: embedded.Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(server, "a")
    monkeypatch.setenv("QSLOTS_REDIS", "unix:///none")
    assert said("task", "delete", "a", "--redis", running.url) == "1 deleted"


def test_tab_completes_the_names_of_queues(server: QueueServer) -> None:
    put(server, "a", queue="mail")
    put(server, "a", queue="mold")
    put(server, "a", queue="index")
    words = {"_QSLOTS_COMPLETE": "bash_complete", "COMP_WORDS": "qslots queue show m", "COMP_CWORD": "3"}
    result = CliRunner().invoke(admin.main, env={**os.environ, **words}, prog_name="qslots")
    assert [line.partition(",")[2] for line in result.stdout.split()] == ["mail", "mold"]


def test_without_a_queue_server_all_say_so_in_one_line(server: QueueServer) -> None:
    server.redis.sadd(QUEUES, "mail")
    for command in (("queue", "show", "q"), ("queue", "pause", "q"), ("queue", "drop", "q", "--yes"), ("task", "find"),
                    ("task", "show", "a"), ("task", "move", "a", "--in", "1s")):  # fmt: skip
        assert "does not answer" in refused(*command, "--redis", "unix:///none")
