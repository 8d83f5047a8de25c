"""``qslots queue`` and ``qslots task`` on a real queue server: what they change, what they say, what they refuse."""

import json
import os
import time
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from support import holder
from support.holder import Holder

import qslots.client
from qmanager.admin import cli as admin
from qmanager.published import clock
from qslots import Queue, embedded, gates, settings
from qslots.keys import PLAN, QUEUES
from qslots.queueserver import QueueServer
from qslots.reports import Declared, HandlerDeclared, Plan, QueueDeclared, QueuePlan, pack


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


def declare(server: QueueServer, *queues: QueueDeclared) -> None:
    """An application that a server reports to have loaded."""
    holder.report_loaded(server, Declared(queues))


def planned(server: QueueServer, *names: str) -> None:
    """A plan of the manager for these queues."""
    queues = tuple(QueuePlan(name, 50, 0, None, 0.0, 0.0, None, 0.0, 0.0, None, "why") for name in names)
    server.redis.set(PLAN, pack(Plan(1, 1, "m", time.time(), queues)))


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


def test_a_queue_that_no_loaded_application_serves_says_so(server: QueueServer) -> None:
    put(server, "a")
    planned(server, "other")
    assert document("queue", "show", "mail")["reason"] == "no application that is loaded has a handler for it"


def test_tasks_of_a_handler_that_no_server_knows_are_counted_apart(server: QueueServer) -> None:
    put(server, "a", "b")
    put(server, "c", when="+60000000")
    declare(server, QueueDeclared("mail", handlers=(HandlerDeclared("bounce"),)))
    assert document("queue", "show", "mail")["unserved"] == {"send": 3}
    assert document("queues")[0]["unserved"] == {"send": 3}
    assert "3 tasks of handler send wait, no server knows it" in run("queue", "show", "mail").stdout
    declare(server, QueueDeclared("mail", handlers=(HandlerDeclared("send"),)))
    assert document("queue", "show", "mail")["unserved"] == {}


def test_a_parked_handler_is_shown_with_its_reason_until_it_goes_on(server: QueueServer) -> None:
    put(server, "a")
    gates.park(server, "mail", "send", "nothing fits")
    [(gate, why)] = document("queue", "show", "mail")["reasons"].items()
    assert (gate, document("queues")[0]["reasons"]) == ("handler:send", {gate: why})
    assert (
        "handler:send (nothing fits; once the code fits: qslots queue resume mail"
        in run("queue", "show", "mail").stdout
    )
    assert said("queue", "resume", "mail", "--handler", "send") == "handler send of queue mail goes on"
    assert document("queue", "show", "mail")["reasons"] == {}


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


def test_what_is_still_paused_is_named_when_something_goes_on(server: QueueServer) -> None:
    put(server, "a", collection="spring")
    for part in ((), ("--collection", "spring"), ("--handler", "send")):
        said("queue", "pause", "mail", *part)
    assert said("queue", "resume", "mail", "--handler", "send") == (
        "handler send of queue mail goes on; still paused: collection spring, the whole queue"
    )
    assert said("queue", "resume", "mail").endswith("queue mail goes on; still paused: collection spring")
    assert "still paused" not in said("queue", "resume", "mail", "--collection", "spring")


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_a_handler_that_a_queue_never_had_is_refused_with_those_that_it_has(server: QueueServer, command: str) -> None:
    put(server, "a")
    assert refused("queue", command, "mail", "--handler", "sned") == (
        "qslots: queue mail has no handler sned: its handlers are send"
    )


def test_a_handler_that_an_application_declares_can_be_paused_before_its_first_task(server: QueueServer) -> None:
    put(server, "a")
    declare(server, QueueDeclared("mail", handlers=(HandlerDeclared("bounce"),)))
    assert said("queue", "pause", "mail", "--handler", "bounce") == "handler bounce of queue mail is paused"


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


def test_an_empty_collection_is_not_the_whole_queue(server: QueueServer) -> None:
    put(server, "a")
    assert run("queue", "drop", "mail", "--collection", "", "--yes").exit_code == 2
    assert Queue("mail").stats().active == 1


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


def test_states_go_by_the_words_of_the_tables_too(server: QueueServer) -> None:
    put(server, "held", collection="spring")
    said("queue", "pause", "mail", "--collection", "spring")
    Holder(server, "s", queue="mail").take({"send": 1})  # finds nothing, and parks what is held back
    put(server, "now")
    put(server, "later", when="+60000000")
    put(server, "gone")
    said("task", "bury", "gone")
    put(server, "taken", queue="other")
    Holder(server, "s", queue="other").take({"send": 1})
    for word, ids in (("active", ["now"]), ("later", ["later"]), ("inactive", ["later"]), ("buried", ["gone"]),
                      ("Failed", ["gone"]), ("locked", ["taken"]), ("running", ["taken"]),
                      ("parked", ["held"])):  # fmt: skip
        assert [task["id"] for task in document("task", "find", "--state", word)] == ids, word


@pytest.mark.usefixtures("server")
def test_find_that_finds_nothing_prints_nothing() -> None:
    assert run("task", "find").output == ""
    assert document("task", "find") == []


def test_a_task_is_moved_by_the_servers_clock(server: QueueServer) -> None:
    put(server, "a")
    now = clock(server)
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


@pytest.mark.parametrize(
    "command", [("kick", "--count", "3"), ("kick", "a"), ("move", "a", "--in", "1m"), ("bury", "a"), ("delete", "a")]
)
def test_a_queue_that_is_not_there_has_no_tasks_to_change(server: QueueServer, command: tuple[str, ...]) -> None:
    put(server, "a")
    assert "there is no queue mial: did you mean mail?" in refused("task", *command, "--queue", "mial")


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


def tab(*words: str) -> list[str]:
    """What is offered for the last of these words."""
    environ = {"_QSLOTS_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(("qslots", *words))}
    environ["COMP_CWORD"] = str(len(words))
    result = CliRunner().invoke(admin.main, env={**os.environ, **environ}, prog_name="qslots")
    return [line.partition(",")[2] for line in result.stdout.split()]


def test_tab_completes_queues_and_of_one_queue_handlers_and_paused_collections(server: QueueServer) -> None:
    put(server, "a", queue="mail")
    put(server, "a", queue="mold")
    put(server, "a", queue="index")
    planned(server, "mint")
    declare(server, QueueDeclared("mail", handlers=(HandlerDeclared("seal"),)))
    assert tab("queue", "show", "m") == ["mail", "mint", "mold"]
    assert tab("queue", "pause", "mail", "--handler", "s") == ["seal", "send"]
    assert tab("queue", "pause", "--handler", "s") == [], "of no queue"
    said("queue", "pause", "mail", "--collection", "spring")
    assert tab("queue", "resume", "mail", "--collection", "s") == ["spring"]


def test_without_a_queue_server_all_say_so_in_one_line(server: QueueServer) -> None:
    server.redis.sadd(QUEUES, "mail")
    for command in (("queue", "show", "q"), ("queue", "pause", "q"), ("queue", "drop", "q", "--yes"), ("task", "find"),
                    ("task", "show", "a"), ("task", "move", "a", "--in", "1s")):  # fmt: skip
        assert "does not answer" in refused(*command, "--redis", "unix:///none")
