"""A master that root starts becomes ``server.user`` before anything of the application runs; limits; folders."""

import contextlib
import json
import os
import pathlib
import pwd
import signal
import subprocess
import sys

import pytest
from process.fleet import APP, SERVER, START, Fleet, Program, lives, titled
from support import reachable
from support.waiting import wait_for

NOBODY = pwd.getpwnam("nobody")
WHO = """\
import resource
import subprocess

note("imported", os.getuid(), os.getgid())

@task
def who() -> None:
    child = subprocess.run(["sh", "-c", "id -u; id -G; echo $HOME"], capture_output=True, text=True, check=True)
    note("child", *child.stdout.split())
    note("limits", *resource.getrlimit(resource.RLIMIT_NOFILE), resource.getrlimit(resource.RLIMIT_CORE)[0])
"""


pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def shared(fleet: Fleet) -> Fleet:
    """A fleet whose folder, queue server and Python the user nobody may reach."""
    room = fleet.folder / "python"
    room.mkdir()
    why = reachable.why_not(NOBODY.pw_uid, room)
    if why:
        pytest.skip(f"the user nobody cannot run this Python: {why}")
    fleet.prefix = reachable.prefix(room, fleet.folder)
    assert fleet.redis is not None
    (fleet.folder / "runs").touch()
    (fleet.folder / "runs").chmod(0o666)
    fleet.folder.chmod(0o1777)
    fleet.redis.folder.chmod(0o755)
    fleet.redis.socket.chmod(0o777)
    return fleet


def configure(fleet: Fleet, **server: object) -> None:
    assert fleet.redis is not None
    settings = {"queue_servers": {"main": fleet.redis.url}, "server": server}
    (fleet.folder / "qslots.yml").write_text(json.dumps(settings))
    fleet.environ["QSLOTS_CONFIG"] = str(fleet.folder / "qslots.yml")


def launch(fleet: Fleet, **server: object) -> Program:
    """A master started by root for the user nobody."""
    configure(fleet, **{"user": "nobody", **server})
    return fleet.launch(WHO, ("who",))


def status_of(pid: int) -> dict[str, str]:
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: rest.strip() for name, _, rest in (line.partition(":") for line in lines)}


def rights_of_others(folder: pathlib.Path) -> set[int]:
    """What group and others may do with the files there; one may be replaced while we look."""
    found = set()
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(path.stat().st_mode & 0o077)
    return found


def family(fleet: Fleet, master: Program) -> list[int]:
    kinds = ("mold", "courier", "slot")
    found = [master.pid, *(pid for kind in kinds for pid in titled(fleet.folder, f"qmaster: {kind}"))]
    assert len(found) == 4
    return found


def test_nothing_runs_as_root_once_a_user_is_set(shared: Fleet) -> None:
    master = launch(shared)
    uid, gid = str(NOBODY.pw_uid), str(NOBODY.pw_gid)
    for pid in family(shared, master):
        facts = status_of(pid)
        assert facts["Uid"].split() == [uid] * 4 and facts["Gid"].split() == [gid] * 4
        assert "0" not in facts["Groups"].split()
        assert facts["NoNewPrivs"] == "1" and int(facts["CapEff"], 16) == int(facts["CapPrm"], 16) == 0
        assert pathlib.Path(f"/proc/{pid}/smaps_rollup").stat().st_uid == NOBODY.pw_uid
    assert [run.words[1:] for run in shared.runs("imported") if run.pid != os.getpid()] == [(uid, gid)]
    shared.app.who.enqueue()
    [child] = shared.wait_run("child")
    assert child.words[1] == uid and "0" not in child.words[2:-1] and child.words[-1] == NOBODY.pw_dir
    assert "the application runs as root" not in master.said()


def test_memory_of_slots_is_measured_and_the_socket_reached_by_root_and_that_user_alone(shared: Fleet) -> None:
    launch(shared)
    wait_for(lambda: shared.live()[0]["pss"], "the slot to be measured", START)
    for uid, code in ((0, 0), (NOBODY.pw_uid, 0), (1, 1)):
        asked = subprocess.run(
            [*shared.prefix, *reachable.as_user(uid), sys.executable, "-m", "qmaster", "status"], env=shared.environ,
            capture_output=True, check=False,
        )  # fmt: skip
        assert asked.returncode == code, asked.stderr
    for name in ("run", "state"):
        facts = (shared.folder / name).stat()
        assert (facts.st_uid, facts.st_mode & 0o777) == (NOBODY.pw_uid, 0o700)
        assert rights_of_others(shared.folder / name) == {0}


def test_slots_of_another_user_die_with_their_master_and_root_starts_the_next_one(shared: Fleet) -> None:
    master = launch(shared)
    family_of_first = family(shared, master)
    master.signal(signal.SIGKILL)
    master.ended()
    wait_for(lambda: not any(map(lives, family_of_first)), "mold, courier and slot to end", 5.0)
    second = shared.start_master()
    shared.slots(1)
    assert status_of(second.pid)["Uid"].split()[0] == str(NOBODY.pw_uid)


def test_that_user_may_reload_refork_and_reopen_the_log(shared: Fleet) -> None:
    logs = shared.folder / "logs"
    logs.mkdir()
    os.chown(logs, NOBODY.pw_uid, NOBODY.pw_gid)
    logs.chmod(0o700)
    log = logs / "qmaster.log"
    shared.environ["QSLOTS_LOG_FILE"] = str(log)
    master = launch(shared, private_limit="48M", max_slots=4)
    log.rename(logs / "before")
    master.signal(signal.SIGUSR1)
    wait_for(lambda: log.exists() and "is opened anew" in log.read_text(), shared.all_said, START)
    assert log.stat().st_uid == NOBODY.pw_uid
    configure(shared, user="nobody", private_limit="48M", max_slots=3)
    for generation, number in ((2, signal.SIGHUP), (3, signal.SIGUSR2)):
        master.signal(number)
        wait_for(lambda n=generation: [slot["generation"] for slot in shared.live()] == [n], log.read_text, START)
        shared.app.who.enqueue()  # what it has finished proves the generation
        wait_for(lambda: len(titled(shared.folder, "qmaster: mold gen")) == 1, log.read_text, START)
        assert {status_of(pid)["Uid"] for pid in family(shared, master)} == {"\t".join([str(NOBODY.pw_uid)] * 4)}
    assert "server.max_slots: 3 (was 4)" in log.read_text()
    assert shared.status()["reload"]["stage"] == "done"
    assert {run.words[1] for run in shared.wait_run("child", count=2)} == {str(NOBODY.pw_uid)}


def test_slots_of_a_mailer_may_gain_rights_if_that_is_asked_for(shared: Fleet) -> None:
    master = launch(shared, no_new_privileges=False)
    assert {status_of(pid)["NoNewPrivs"] for pid in family(shared, master)} == {"0"}


def test_nothing_is_started_where_the_rights_of_root_stay(fleet: Fleet) -> None:
    fleet.write_app(WHO)
    configure(fleet, user="nobody")
    fleet.prefix = ["setpriv", "--securebits", "+no_setuid_fixup"]
    master = fleet.start_master()
    assert master.ended(START) == 1
    [line] = master.err.read_text().splitlines()
    assert "the rights of root stay with nobody" in line
    assert len(fleet.runs("imported")) == 1  # ours


def test_a_folder_that_others_may_replace_is_not_given_away(fleet: Fleet) -> None:
    fleet.write_app(WHO)
    configure(fleet, user="nobody")
    theirs = fleet.folder / "theirs"
    theirs.mkdir()
    os.chown(theirs, NOBODY.pw_uid, NOBODY.pw_gid)
    (theirs / "roots").mkdir(mode=0o700)
    before = (theirs / "roots").stat().st_uid
    (theirs / "link").symlink_to("/etc")
    for name in ("roots", "link"):
        master = fleet.start("qmaster", "run", "--app", APP, environ={"QSLOTS_RUNTIME_DIR": str(theirs / name)})
        assert master.ended(START) == 1
        [line] = master.err.read_text().splitlines()
        assert "is not safe: others could replace" in line or "alone" in line
    assert before == (theirs / "roots").stat().st_uid == pathlib.Path("/etc").stat().st_uid == 0


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ({"user": "no-such-user"}, "there is no user 'no-such-user'"),
        ({"limits": {"nofiles": 4096}}, "server.limits.nofiles: did you mean nofile?"),
        ({"limits": {"nofile": "many"}}, "server.limits.nofile is 'many'"),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_line(fleet: Fleet, server: dict[str, object], said: str) -> None:
    fleet.write_app(WHO)
    configure(fleet, **server)
    master = fleet.start_master()
    assert master.ended(START) == 1
    [line] = master.err.read_text().splitlines()
    assert said in line


def test_limits_reach_the_tasks_and_the_master_has_descriptors_for_all_its_slots(fleet: Fleet) -> None:
    configure(fleet, limits={"nofile": 512, "core": 0})
    master = fleet.launch(WHO, ("who",))
    fleet.app.who.enqueue()
    [limits] = fleet.wait_run("limits")
    soft, hard, core = limits.words[1:]
    assert (soft, core) == ("512", "0") and int(hard) >= 512
    own = pathlib.Path(f"/proc/{master.pid}/limits").read_text()
    [line] = [line for line in own.splitlines() if line.startswith("Max open files")]
    assert line.split()[3] == line.split()[4] == hard
    if os.geteuid() == 0:
        wait_for(lambda: "runs as root" in master.err.read_text(), "the warning")
        assert master.err.read_text().count("the application runs as root") == 1
    assert fleet.status()["server"] == SERVER
