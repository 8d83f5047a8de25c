"""deploy/redis: each role's user can do its work and nothing else, on every server that we support.

Redis checks every command inside a script against the caller's rights, and rolls nothing back. So a role has all
commands of every script whose keys it may touch, or none that writes: whoever is denied is denied before the first
write. A new script belongs to producers, unless its name goes into one of the sets below; the first test then prints
the line that users.acl needs.
"""

import pathlib
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import servers
from support.commands import commands, scripts
from support.holder import HANDLER, QUEUE, Holder, put, stats
from support.servers import RedisServer
from support.waiting import wait_for

from qmanager.admin import queueviews, views
from qmanager.published import clock
from qslots import keys
from qslots.bell import Bell, Rung
from qslots.connection import Link, open_redis
from qslots.control import Control
from qslots.durability import parse, promise
from qslots.errors import QueueServerError
from qslots.inspector import Inspector
from qslots.keys import QueueKeys
from qslots.outcomes import Outcome
from qslots.queueserver import QueueServer
from qslots.records import formed, header
from qslots.reports import MapRow, Plan, Report
from qslots.servers import QueueServers

REDIS = pathlib.Path(__file__).parents[2] / "deploy" / "redis"
ROLES = ("producer", "slot", "manager", "reader")

WITH_LOCKS = {f"queue/{name}" for name in ("cascade", "exchange", "extend", "reclaim", "release", "settle", "stats")}
OF_MASTERS = {"control/beat", "control/leave", "control/report", "control/takeover"}
OF_MANAGERS = {"control/epoch", "control/forget", "control/order", "control/pin", "control/publish", "queue/tick"}
SCRIPTS = {
    "producer": scripts() - WITH_LOCKS - OF_MASTERS - OF_MANAGERS,
    "slot": scripts() - OF_MANAGERS,
    "manager": scripts(),
    "reader": {"queue/find", "queue/get", "queue/stats"},
}
OF_A_QUEUE = [*(f"~qs:{{*}}:{part}" for part in QueueKeys.PARTS)]
OF_A_QUEUE += [f"~qs:{{*}}:{kind}:*" for kind in ("schedule", "parked", "producer", "result")]
KEYS = {
    "producer": [*OF_A_QUEUE, f"~{keys.QUEUES}"],
    "slot": [
        "~qs:{*}:*",
        *(
            f"~{key}"
            for key in (
                keys.QUEUES,
                keys.PULSE,
                keys.MASTERS,
                keys.SEEN,
                keys.REPORTS,
                keys.MAP,
                keys.DECLARED,
                keys.ORDERS,
            )
        ),
    ],
    "manager": ["~qs:*"],
    "reader": ["~qs:*"],
}
RESULTS = "&qs:{*}:result:*"  # the channels on which the end of a task is told

# What the Python client sends besides scripts.
ALWAYS = {"client|setname", "evalsha", "info", "ping", "script|load", "select"}
LOOKING = {"get", "hgetall", "hkeys", "smembers", "subscribe", "unsubscribe"}
OVERALL = {"exists", "hget", "hmget", "hscan", "time", "zrange", "zrangebyscore", "zscore"}
BESIDES = {
    "producer": LOOKING | {"wait"},
    "slot": LOOKING | {"blpop", "client|id", "client|unblock", "hget", "hscan", "wait"},
    "manager": LOOKING | OVERALL | {"wait"},
    "reader": LOOKING | OVERALL,
}


def rights(role: str) -> str:
    """What users.acl must say of a role after its password."""
    needed = ALWAYS | BESIDES[role]
    for script in SCRIPTS[role]:
        needed |= commands(script)
    return " ".join(["resetchannels", RESULTS, *KEYS[role], "-@all", *(f"+{name}" for name in sorted(needed))])


@pytest.mark.parametrize("role", ROLES)
def test_role_has_the_rights_that_its_scripts_need_and_no_others(role: str) -> None:
    beginning = f"user qslots-{role} on #SHA256-OF-THE-PASSWORD-OF-qslots-{role} "
    found = [line for line in (REDIS / "users.acl").read_text().splitlines() if line.startswith(beginning)]
    assert found == [beginning + rights(role)]


def test_sets_name_scripts_that_there_are() -> None:
    assert scripts() >= WITH_LOCKS | OF_MASTERS | OF_MANAGERS | SCRIPTS["reader"]


@pytest.fixture(scope="module", params=servers.BINARIES)
def guarded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Guarded"]:
    """A server as deploy/redis sets it up, of each binary; passwords as its README makes them."""
    binary = servers.find(request.param)
    if binary.missing:
        pytest.skip(binary.missing)
    folder = tmp_path_factory.mktemp("acl")
    users = folder / "users.acl"
    users.write_text((REDIS / "users.acl").read_text())
    script = re.search(r"```sh\n(.*?)```", (REDIS / "README.md").read_text(), re.DOTALL)
    assert script is not None
    said = subprocess.run(["sh", "-euc", script[1]], cwd=folder, check=True, capture_output=True, text=True).stdout
    server = RedisServer(
        binary, port=servers.free_port(), file=(REDIS / "redis.conf").read_text(),
        options={"aclfile": str(users), "repl-diskless-sync-delay": "0"},
    )  # fmt: skip
    yield Guarded(server, dict(line.split() for line in said.splitlines()))
    server.stop()


class Guarded:
    """A server that lets in who has a password."""

    def __init__(self, server: RedisServer, passwords: dict[str, str]) -> None:
        self.server = server
        self.passwords = passwords

    def url(self, user: str) -> str:
        """The URL of a user."""
        return f"unix://{user}:{self.passwords[user]}@{self.server.socket}"

    def link(self, user: str) -> Link:
        """Round trips as a user."""
        return Link(open_redis(self.url(user), name="t"), self.url(user))

    def client(self, role: str, *, single: bool = False) -> QueueServer:
        """A client as the user of a role."""
        return QueueServer(self.url(f"qslots-{role}"), name="t", single=single)


@pytest.fixture
def empty(guarded: Guarded) -> Guarded:
    """The same, with nothing in it and no script loaded."""
    guarded.link("admin").calls(("FLUSHALL",), ("SCRIPT", "FLUSH"), ("ACL", "LOG", "RESET"))
    return guarded


def refused(guarded: Guarded) -> list[Any]:
    """What the server has logged as refused."""
    log: list[Any] = guarded.link("admin").call("ACL", "LOG")
    return log


def test_file_as_it_is_shipped_lets_nobody_in() -> None:
    binary = servers.find("path")
    if binary.missing:
        pytest.skip(binary.missing)
    command = [binary.path, "--port", str(servers.free_port()), "--aclfile", str(REDIS / "users.acl")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=10)
    assert run.returncode != 0
    assert "ACL errors" in run.stdout


def test_settings_are_taken_by_every_server(guarded: Guarded) -> None:
    admin = guarded.link("admin")
    wanted = {"appendonly": b"yes", "maxmemory-policy": b"noeviction", "save": b"", "timeout": b"0"}
    assert {name: admin.call("CONFIG", "GET", name)[1] for name in wanted} == wanted


def test_nobody_comes_in_without_a_password(guarded: Guarded) -> None:
    for url in (guarded.server.url, f"unix://qslots-slot:@{guarded.server.socket}"):
        with pytest.raises(QueueServerError, match=r"(?i)auth|does not let user 'qslots-slot' in"):
            Link(open_redis(url, name="t"), url).call("PING")


def test_producer_puts_and_waits_for_a_replica(empty: Guarded) -> None:
    producer = empty.client("producer")
    assert put(producer, "a", "b", own_ids=True) == 2
    assert Link(producer.redis, producer.url).call("WAIT", 0, 1) == 0
    assert refused(empty) == []


@pytest.mark.parametrize("role", ["producer", "slot", "manager"])
def test_application_looks_at_its_tasks_and_changes_them(empty: Guarded, role: str) -> None:
    server = empty.client(role)
    inspector = Inspector(server, QUEUE)
    put(server, "a", "b", "c", "d", collection="spring")
    inspector.move("a", "+1000000")
    inspector.update("a", record())
    inspector.bury("b", "why")
    assert inspector.kick(10) == 1
    assert inspector.delete("c")
    inspector.pause("collection:spring")
    assert inspector.resume("collection:spring") == 0
    _, found = inspector.get(["a", "c"])
    assert [each is not None for each in found] == [True, False]
    assert {task for page in inspector.every_id() for task in page} == {"a", "b", "d"}
    assert sum(gone for _, gone in inspector.drop("spring")) == 3
    assert refused(empty) == []


def test_slot_and_master_do_their_work(empty: Guarded) -> None:
    slot = Holder(empty.client("slot", single=True), "s")
    server = slot.server
    put(server, "a", "b", "c", "d")
    assert slot.work(3) == ["a", "b", "c"]
    assert slot.settle({1: Outcome("fail", limit=3, base=0, cap=0, jitter=1.0, why="w")})
    assert server.reclaim(QUEUE, 60.0) == 0
    assert slot.settle({2: Outcome("bury", why="w")})
    assert server.extend(QUEUE, 60.0, ["s:1"]) == []
    assert slot.release()
    slot.held = None
    assert server.due({QUEUE: ["h"]}) == {QUEUE}
    assert "c" in slot.work()
    assert slot.die()
    other = Holder(server, "t")
    while other.work():
        pass
    server.unwait("t", {QUEUE: ["h"]})
    ours, theirs = socket.socketpair()
    with ours, theirs:
        waiting = QueueServers({"main": empty.url("qslots-slot")}, {}, name="slot", single=True)
        assert Bell(waiting).wait({"main": [server.keys_of(QUEUE).wake]}, 0.02, [ours]) == Rung()
        waiting.close()
    control = Control(server)
    control.take_over("web", "", "i", gone_after=10)
    control.report(report(), None)
    control.beat()
    control.leave("web", "i")
    assert refused(empty) == []


def report() -> Report:
    """The report of a master."""
    return Report(
        server="web", incarnation="i", host="h", pid=1, generation=1, declared="", budget=1, max_slots=4, pss=1,
        free_memory=1, slot_size=1, slot_sizes={}, epoch=0, seq=1,
    )  # fmt: skip


def test_manager_reigns_and_readers_read(empty: Guarded) -> None:
    put(empty.client("producer"), "a")
    Control(empty.client("slot")).take_over("web", "", "i", gone_after=10)
    Control(empty.client("slot")).report(report(), None)
    control = Control(empty.client("manager"))
    epoch = control.take_epoch("m", 0, respect=3.0, take_over=False)
    control.publish(Plan(epoch, 1, "m", control.heard().now, ()), {"web": MapRow(epoch, 1, "m", ((QUEUE,),))}, ["gone"])
    control.pin("mail", 3)
    assert control.forget(60.0, ["d"]) == []
    for role in ("manager", "reader"):
        client = empty.client(role)
        assert set(Control(client).reports()[0]) == set(Control(client).rows()) == {"web"}
        assert Control(client).declared({"d"}) == {}
        assert (Control(client).pins(), Control(client).digests()) == ({"mail": 3}, set())
        assert stats(client).active == 1
        assert client.queue_names() == [QUEUE]
        servers = QueueServers({"main": client.url}, {}, name="test")
        for view in (views.map_view, views.slots_view, views.servers_view, queueviews.queues_view):
            assert view(servers).notes == ()
        servers.close()
        assert not views.is_loaded(client, 2, clock(client) - 60)
    assert refused(empty) == []


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("command", [
    ("FLUSHALL",), ("CONFIG", "SET", "maxmemory", "0"), ("CONFIG", "GET", "*"), ("KEYS", "*"), ("MONITOR",),
    ("SHUTDOWN",), ("ACL", "LIST"), ("REPLICAOF", "NO", "ONE"), ("CLIENT", "KILL", "ID", "1"), ("SCRIPT", "FLUSH"),
    ("EVAL", "return 1", "0"), ("SUBSCRIBE", "x"), ("EVALSHA", "0" * 40, "1", "session:1"),
    ("EVALSHA", "0" * 40, "1", "qs"),
])  # fmt: skip
def test_what_no_role_needs_is_denied(guarded: Guarded, role: str, command: tuple[str, ...]) -> None:
    denied(lambda: guarded.link(f"qslots-{role}").call(*command), role)


@pytest.mark.parametrize("role", ROLES)
def test_debugging_is_denied(guarded: Guarded, role: str) -> None:
    said = re.compile("does not allow this|DEBUG command not allowed")  # from Redis 7 on nobody may, by default
    with pytest.raises(QueueServerError, match=said):
        guarded.link(f"qslots-{role}").call("DEBUG", "SLEEP", "0")


def denied(act: Callable[[], object], role: str) -> None:
    """Fails unless the server does not let this role's user do it, and the error says so on one line."""
    with pytest.raises(QueueServerError, match=f"does not allow this to user 'qslots-{role}': .*users.acl") as error:
        act()
    assert error.value.code == "NOPERM"
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("role", "key"), [
    *(("producer", key) for key in (keys.MASTERS, keys.REPORTS, keys.SEEN, keys.MAP, keys.DECLARED)),
    *((role, key) for role in ("producer", "slot") for key in (keys.EPOCH, keys.PLAN)),
])  # fmt: skip
def test_keys_of_others_are_denied(guarded: Guarded, role: str, key: str) -> None:
    denied(lambda: guarded.link(f"qslots-{role}").call("EVALSHA", "0" * 40, 1, key), role)


FOREIGN: list[tuple[str, Callable[[QueueServer], object]]] = [
    *((role, lambda server: Holder(server, "s").take()) for role in ("producer", "reader")),
    *((role, lambda server: _holding(server).settle({})) for role in ("producer", "reader")),
    *((role, lambda server: _holding(server).release()) for role in ("producer", "reader")),
    *((role, lambda server: _holding(server).die()) for role in ("producer", "reader")),
    *((role, lambda server: server.extend(QUEUE, 60.0, ["s:1"])) for role in ("producer", "reader")),
    ("producer", lambda server: server.reclaim(QUEUE, 60.0)),  # a reader is not denied it while nothing has expired
    *(
        (role, lambda server: Control(server).take_over("web", "", "i", gone_after=10))
        for role in ("producer", "reader")
    ),
    *((role, lambda server: _ascend(server)) for role in ("producer", "slot", "reader")),
    *(
        ("reader", act)
        for act in (
            lambda server: put(server, "c"),
            lambda server: server.unwait("s", {QUEUE: ["h"]}),
            lambda server: Inspector(server, QUEUE).move("b", ""),
            lambda server: Inspector(server, QUEUE).update("b", record()),
            lambda server: Inspector(server, QUEUE).delete("b"),
            lambda server: Inspector(server, QUEUE).bury("b", "why"),
            lambda server: Inspector(server, QUEUE).kick(1),
            lambda server: Inspector(server, QUEUE).pause("queue:"),
            lambda server: list(Inspector(server, QUEUE).drop("")),
        )
    ),
]


def record() -> bytes:
    """A record as ``update`` takes it, of the collection that these tests use."""
    return header(HANDLER, 7, "spring") + formed(b"\x80")


def _holding(server: QueueServer) -> Holder:
    holder = Holder(server, "s")
    holder.seq = holder.held = 1
    return holder


def _ascend(server: QueueServer) -> None:
    Control(server).take_epoch("m", 0, respect=3.0, take_over=False)


@pytest.mark.parametrize(("role", "act"), FOREIGN, ids=lambda value: value if isinstance(value, str) else "")
def test_work_of_others_is_denied_before_anything_is_written(
    empty: Guarded, role: str, act: Callable[[QueueServer], object]
) -> None:
    """Redis rolls nothing back: a user with half the rights of a script would leave half its work."""
    slot = Holder(empty.client("slot"), "s")
    put(slot.server, "a", "b", "d", collection="spring")
    assert slot.work(1)
    Inspector(slot.server, QUEUE).bury("d", "why")
    before = contents(empty)
    denied(lambda: act(empty.client(role)), role)
    assert contents(empty) == before


def contents(guarded: Guarded) -> dict[bytes, bytes]:
    """All that is stored."""
    admin = guarded.link("admin")
    return {key: admin.call("DUMP", key) for key in admin.call("KEYS", "*")}


def test_put_that_waits_for_the_disk_takes_a_right_that_is_named(empty: Guarded) -> None:
    producer, admin = empty.client("producer"), empty.link("admin")
    link = Link(producer.redis, producer.url)
    if empty.server.binary.version < (7, 2):
        with pytest.raises(QueueServerError, match=r"add \+config\|get to its rights"):
            promise(link, producer.url, parse("fsync"))
        return
    command = promise(link, producer.url, parse("fsync"))
    assert command is not None
    denied(lambda: link.call(*command), "producer")
    admin.call("ACL", "SETUSER", "qslots-producer", "+waitaof")
    assert link.call(*command) == [1, 0]
    admin.call("ACL", "LOAD")


def test_replica_and_sentinel_have_what_they_need(guarded: Guarded) -> None:
    binary, port = guarded.server.binary, guarded.server.port
    password = guarded.passwords["qslots-replica"]
    replica = RedisServer(
        binary, port=servers.free_port(),
        options={"replicaof": f"127.0.0.1 {port}", "masteruser": "qslots-replica", "masterauth": password},
    )  # fmt: skip
    lines = [
        f"sentinel monitor main 127.0.0.1 {port} 1",
        "sentinel auth-user main qslots-sentinel",
        f"sentinel auth-pass main {guarded.passwords['qslots-sentinel']}",
    ]
    following = Link(open_redis(replica.url, name="t"), replica.url)
    try:
        wait_for(lambda: following.call("ROLE")[3] == b"connected", "the replica to follow")
        sentinel = RedisServer(binary, port=servers.free_port(), file="\n".join(lines), sentinel=True)
        asked = Link(open_redis(sentinel.url, name="t"), sentinel.url)
        try:
            wait_for(lambda: b"1" in _after(b"num-slaves", asked.call("SENTINEL", "MASTER", "main")), "it to look")
            password, there = guarded.passwords["qslots-producer"], f"127.0.0.1:{sentinel.port}"
            url = f"redis+sentinel://qslots-producer:{password}@{there}/main"
            assert put(QueueServer(url, name="t"), "a", queue="other") == 1
        finally:
            sentinel.stop()
    finally:
        replica.stop()


def _after(name: bytes, flat: list[bytes]) -> list[bytes]:
    """The value of one name, of names and values in turn."""
    return flat[flat.index(name) + 1 :][:1]
