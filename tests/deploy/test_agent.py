"""The OCF agent for qmanager, called as pacemaker calls it: answers by the conventions, nobody killed by mistake."""

import contextlib
import dataclasses
import getpass
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from support.processes import living_of
from support.waiting import wait_for

from qmanager.place import Sign, sign_in

AGENT = pathlib.Path(__file__).parents[2] / "deploy" / "ocf" / "qmanager"
SCHEMAS = pathlib.Path("/usr/share/resource-agents")
SUCCESS, GENERIC, INSTALLED, CONFIGURED, NOT_RUNNING = 0, 1, 5, 6, 7
SETTINGS = "queue_servers: {main: 'redis://127.0.0.1:1'}\n"  # nobody listens there: no action may need it


@dataclasses.dataclass(frozen=True)
class Node:
    """A node with qslots on it."""

    folder: pathlib.Path
    parameters: dict[str, str]

    @property
    def place(self) -> pathlib.Path:
        return pathlib.Path(self.parameters["runtime_dir"])

    def run(self, action: str, level: int = 0, **changed: str) -> "subprocess.CompletedProcess[str]":
        given = {f"OCF_RESKEY_{name}": value for name, value in (self.parameters | changed).items()}
        return subprocess.run(
            [AGENT, action], env=os.environ | given | {"OCF_CHECK_LEVEL": str(level)}, cwd="/", capture_output=True,
            text=True, check=False, timeout=30,
        )  # fmt: skip

    def answers(self, action: str, level: int = 0, **changed: str) -> int:
        return self.run(action, level, **changed).returncode

    def sign(self) -> Sign:
        found = sign_in(self.place)
        assert found is not None
        return found


@pytest.fixture
def node(folder: pathlib.Path) -> Iterator[Node]:
    (folder / "qslots.yml").write_text(SETTINGS)
    binary = pathlib.Path(sys.executable).with_name("qmanager")
    if not binary.exists():
        pytest.skip(f"qslots is not installed beside {sys.executable}")
    made = Node(folder, {
        "binary": str(binary), "config": str(folder / "qslots.yml"), "user": getpass.getuser(),
        "runtime_dir": str(folder / "run" / "manager"), "log": str(folder / "log"),
    })  # fmt: skip
    yield made
    for pid in living_of(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_life(node: Node) -> None:
    assert node.answers("validate-all") == SUCCESS
    assert node.answers("monitor") == NOT_RUNNING
    assert node.answers("stop") == SUCCESS
    assert node.answers("start") == SUCCESS
    first = node.sign()
    assert first.lives()
    assert node.answers("start") == SUCCESS
    assert node.sign().pid == first.pid
    assert [node.answers("monitor", level) for level in (0, 10)] == [SUCCESS, SUCCESS]
    words = pathlib.Path(f"/proc/{first.pid}/cmdline").read_bytes().split(b"\0")
    assert words[-4:-1] == [b"-c", node.parameters["config"].encode(), b"--take-over"]
    assert os.getsid(first.pid) == first.pid  # what pacemaker does to the agent's group does not reach it
    assert node.answers("stop") == SUCCESS
    assert not first.lives()
    assert [node.answers(action) for action in ("monitor", "stop")] == [NOT_RUNNING, SUCCESS]


def test_a_manager_that_was_killed_is_not_running_and_starts_again(node: Node) -> None:
    node.run("start")
    first = node.sign()
    os.kill(first.pid, signal.SIGKILL)
    wait_for(lambda: not first.lives(), "its end", 5.0)
    assert node.answers("monitor", 10) == NOT_RUNNING
    assert node.answers("start") == SUCCESS
    assert node.sign() != first and node.sign().lives()


def test_the_deeper_monitor_fails_when_no_map_was_published_for_long_and_the_other_does_not(node: Node) -> None:
    node.run("start")
    wait_for(lambda: node.answers("monitor", 10, max_map_age="0") == GENERIC, "two seconds without a map", 10.0)
    assert "no map was published for " in node.run("monitor", 10, max_map_age="0").stderr
    assert node.answers("monitor", 10, max_map_age="60") == SUCCESS
    assert node.answers("monitor", 0, max_map_age="0") == SUCCESS


def test_a_manager_of_long_intervals_is_not_late_before_three_of_them(node: Node) -> None:
    node.run("start")
    sign = node.sign()
    uptime = float(pathlib.Path("/proc/uptime").read_text().split()[0])
    for published, answer in (
        (f"{uptime - 20:.2f} 30", SUCCESS),
        (f"{uptime - 40:.2f} 30", GENERIC),
        ("soon", GENERIC),
    ):
        os.kill(sign.pid, signal.SIGSTOP)  # so that it does not write its own
        (node.place / "alive").write_text(f"{sign.pid} {sign.start} {published}\n")
        assert node.answers("monitor", 10) == answer


def test_stop_ends_a_frozen_manager(node: Node) -> None:
    node.run("start")
    frozen = node.sign()
    os.kill(frozen.pid, signal.SIGSTOP)
    assert node.answers("stop") == SUCCESS
    assert not frozen.lives()
    assert node.answers("monitor") == NOT_RUNNING


def test_stop_ends_a_manager_that_was_still_starting(node: Node) -> None:
    slow = node.folder / "slow"
    slow.write_text("#!/bin/sh\nwhile :; do sleep 1; done\n")
    slow.chmod(0o755)
    given = {f"OCF_RESKEY_{name}": value for name, value in (node.parameters | {"binary": str(slow)}).items()}
    with subprocess.Popen([AGENT, "start"], env=os.environ | given, start_new_session=True) as starting:
        wait_for(lambda: sign_in(node.place), "its first sign", 10.0)
        os.killpg(starting.pid, signal.SIGKILL)  # pacemaker's time-out
    sign = node.sign()
    assert sign.lives()
    assert node.answers("stop") == SUCCESS
    assert not sign.lives()


@pytest.mark.parametrize("line", ["{pid} 1 5.00", "{pid}", "", "nonsense 1 2", "-1 0 0", "{pid} x y\nz"])
def test_a_line_that_is_stale_or_nonsense_gets_nobody_killed(node: Node, line: str) -> None:
    with subprocess.Popen(["sleep", "60"]) as foreign:
        node.place.mkdir(parents=True)
        (node.place / "alive").write_text(line.format(pid=foreign.pid) + "\n")
        assert [node.answers("monitor", level) for level in (0, 10)] == [NOT_RUNNING, NOT_RUNNING]
        assert node.answers("stop") == SUCCESS
        assert foreign.poll() is None
        foreign.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_root_runs_it_as_its_user_in_a_folder_of_that_user(node: Node) -> None:
    program = node.folder / "program"
    program.write_text(
        '#!/bin/sh\nread -r pid start _ <"$QSLOTS_MANAGER_RUNTIME_DIR/alive"\n'
        'echo "$pid $start 1.0" >"$QSLOTS_MANAGER_RUNTIME_DIR/alive"\nexec sleep 60\n'
    )
    program.chmod(0o755)
    node.folder.chmod(0o755)
    done = node.run("start", binary=str(program), user="nobody")
    assert done.returncode == SUCCESS, done.stderr
    nobody = pwd.getpwnam("nobody").pw_uid
    status = pathlib.Path(f"/proc/{node.sign().pid}/status").read_text()
    assert f"Uid:\t{nobody}\t{nobody}\t{nobody}\t{nobody}\n" in status
    assert (node.place.stat().st_uid, node.place.stat().st_mode & 0o777) == (nobody, 0o700)
    assert node.answers("stop", user="nobody") == SUCCESS


def test_where_qslots_is_not_installed_it_says_so_and_stop_is_done(node: Node) -> None:
    missing = str(node.folder / "missing")
    for action in ("monitor", "start", "validate-all"):
        assert node.answers(action, binary=missing) == INSTALLED
    assert node.answers("stop", binary=missing) == SUCCESS
    for parameter in ("config", "user"):
        done = node.run("start", **{parameter: missing})
        assert (done.returncode, "ocf-exit-reason:" in done.stderr) == (INSTALLED, True)
        assert node.answers("monitor", **{parameter: missing}) == NOT_RUNNING
    done = node.run("start", log=str(node.folder))
    assert (done.returncode, f"the log {node.folder} cannot be written" in done.stderr) == (INSTALLED, True)
    for age in ("soon", "-1", "9" * 20):
        assert node.answers("validate-all", max_map_age=age) == CONFIGURED


def test_a_start_that_fails_says_why(node: Node) -> None:
    pathlib.Path(node.parameters["config"]).write_text("manager: {intervall: 1s}\n")
    done = node.run("start")
    assert done.returncode == GENERIC
    assert "ocf-exit-reason:qmanager has ended at its start: " in done.stderr
    assert "did you mean interval" in done.stderr
    assert node.answers("monitor") == NOT_RUNNING
    silent = node.folder / "silent"
    silent.write_text("#!/bin/sh\nexit 3\n")
    silent.chmod(0o755)
    said = node.run("start", binary=str(silent)).stderr
    assert "has ended at its start: without a word to " in said and "did you mean" not in said  # as the one before


def test_what_it_does_not_know_is_unimplemented(node: Node) -> None:
    assert node.answers("promote") == 3


@pytest.mark.needs("shellcheck")
def test_shellcheck_finds_nothing() -> None:
    done = subprocess.run(["shellcheck", "-s", "sh", AGENT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert AGENT.read_text().count("\n") < 200


@pytest.mark.needs("xmllint")
@pytest.mark.parametrize("schema", ["--dtdvalid ra-api-1.dtd", "--relaxng metadata.rng"])
def test_its_metadata_is_valid(schema: str) -> None:
    option, file = schema.split()
    if not (SCHEMAS / file).exists():
        pytest.skip(f"{SCHEMAS / file} is missing: apt-get install resource-agents")
    told = subprocess.run([AGENT, "meta-data"], capture_output=True, check=True).stdout
    words = ["xmllint", "--noout", "--nonet", "--path", str(SCHEMAS), option, str(SCHEMAS / file), "-"]
    done = subprocess.run(words, input=told, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.needs("ocf-tester", "xmllint")
def test_ocf_tester_passes(node: Node) -> None:
    copy = node.folder / "qmanager"  # where everybody may read it: it is also called as nobody
    shutil.copy(AGENT, copy)
    node.folder.chmod(0o755)
    options = [word for name, value in node.parameters.items() for word in ("-o", f"{name}={value}")]
    words = ["ocf-tester", "-n", "qmanager", *options, str(copy)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed all tests" in done.stdout
