"""The few things of Linux that Python does not offer. Each raises OSError as the kernel says it."""

import contextlib
import ctypes
import os
import pathlib
import re
import signal
from collections.abc import Iterable

from qslots.footprint import read_proc

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_OWN_CHANCE = "/proc/self/oom_score_adj"

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """This process gets the signal when the thread that is its parent ends. Cleared by setuid and by fork."""
    _prctl(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """Orphaned descendants of this process become its children, not init's."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def has_terminal() -> bool:
    """Whether this process has a controlling terminal, which sends signals of its own."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def no_new_privileges() -> None:
    """Nothing that this process ever executes has more rights than it: setuid and setgid bits do nothing."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def show_process() -> None:
    """/proc/PID of this process is its own user's (again), who may read its memory maps and trace it."""
    _prctl(_PR_SET_DUMPABLE, 1)


def malloc_trim() -> None:
    """Gives free heap back to the kernel, where the C library can (glibc)."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(0)


def prefer_to_be_killed(adjust: int = 300) -> None:
    """When memory runs out the kernel takes this process before its master. Lowering it again is not ours to do."""
    if int(read_proc(_OWN_CHANCE)) < adjust:
        descriptor = os.open(_OWN_CHANCE, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, b"%d" % adjust)
        finally:
            os.close(descriptor)


_GROUPS = pathlib.Path("/sys/fs/cgroup")
_OOM_KILLS = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


def memory_kills() -> int:
    """How many processes the kernel has killed for want of memory so far: in our control group and those below it, or
    on the whole machine where the group does not say; 0 if nobody does.
    """
    lines = [line.split(":", 2) for line in _read("/proc/self/cgroup").splitlines()]
    places = {kinds: path.lstrip("/") for _, kinds, path in lines}
    counted = _kills(_GROUPS / places[""] / "memory.events") if places.get("") else []  # v2 counts those below too
    if not counted and places.get("memory"):
        below = (_GROUPS / "memory" / places["memory"]).rglob("memory.oom_control")
        counted = [count for each in below for count in _kills(each)]
    return sum(counted or _kills("/proc/vmstat"))


def _kills(path: str | pathlib.Path) -> list[int]:
    return [int(count) for count in _OOM_KILLS.findall(_read(path))]


def _read(path: str | pathlib.Path) -> str:
    try:
        return pathlib.Path(path).read_text()
    except OSError:
        return ""


def boot_id() -> str:
    """A random name of this run of the kernel; "" if it does not say."""
    try:
        return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def threads() -> dict[int, str]:
    """Number -> name of all threads of this process, native ones included; the first has the number of the process."""
    found = {}
    for task in pathlib.Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            found[int(task.name)] = task.joinpath("comm").read_text(errors="replace").strip()
    return found


def children() -> dict[int, list[str]]:
    """Pid -> command of all children of this process that have not ended."""
    found = {}
    for pid in pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
            if command:  # a zombie has none
                found[int(pid)] = command
    return found


def strays(dead: int, known: set[int], molds: set[int]) -> set[int]:
    """What a dead, not yet reaped slot has left behind.

    That is its session; what has left the session, which the kernel has made a child of this process, like a slot, but
    nobody knows it; and the descendants of these. Zombies count: one may have forked since the list of pids was read.
    A slot just being born is nobody's stray: it stays in its mold's session until it has told its pid; so whoever looks
    like one must be listened for once more before it is killed.
    """
    me = os.getpid()
    found, parents = set(), {}
    for pid in (int(entry.name) for entry in _processes()):
        if pid in (me, dead):
            continue
        try:  # by the cheapest way: there may be thousands of processes, and it is looked for each slot that dies
            _, parent, _, session = read_proc(f"/proc/{pid}/stat").rpartition(")")[2].split()[:4]
        except OSError:  # gone meanwhile, or we have no descriptor left
            continue
        parents[pid] = int(parent)
        if int(session) == dead or (int(parent) == me and pid not in known and int(session) not in molds):
            found.add(pid)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _processes() -> list[pathlib.Path]:
    """Their folders in /proc; none where we have no descriptor left to look."""
    try:
        return [entry for entry in pathlib.Path("/proc").iterdir() if entry.name.isdigit()]
    except OSError:
        return []


def kill(pids: Iterable[int]) -> None:
    """SIGKILL for these."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # gone meanwhile, or another user's by now
            os.kill(pid, signal.SIGKILL)


def kill_leftovers(lock: pathlib.Path, mark: str) -> None:
    """SIGKILL for all that a dead master's slots have left: whoever has their lock file open, or their mark in its
    environment. The first are forked children, the second programs that a task has started.
    """
    wanted, marked = str(lock.resolve()), mark.encode()
    for entry in _processes():
        if int(entry.name) == os.getpid():
            continue
        try:
            holds = any(os.readlink(each) == wanted for each in entry.joinpath("fd").iterdir())  # noqa: PTH115
            if holds or marked in entry.joinpath("environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)
        except OSError:  # gone meanwhile, or another user's
            continue
