"""The few things of Linux that Python does not offer. Each raises OSError as the kernel says it."""

import contextlib
import ctypes
import os
import pathlib
import re
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

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
    own = pathlib.Path("/proc/self/oom_score_adj")
    if int(own.read_text()) < adjust:
        own.write_text(str(adjust))


def memory_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started, in all control groups; 0 if it
    does not say.
    """
    try:
        found = re.search(r"^oom_kill (\d+)$", pathlib.Path("/proc/vmstat").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


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
            found[int(task.name)] = task.joinpath("comm").read_text().strip()
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


def kill_strays(dead: int, known: set[int], molds: set[int]) -> None:
    """SIGKILL for all that a dead, not yet reaped slot has left behind.

    That is its session, and what has left the session: the kernel has made it a child of this process, like a slot,
    but nobody knows it. A slot just being born is nobody's stray: it stays in its mold's session until it has told its
    pid.
    """
    me = os.getpid()
    for entry in pathlib.Path("/proc").iterdir():
        pid = int(entry.name) if entry.name.isdigit() else me
        if pid == me:
            continue
        try:
            state, parent, _, session = entry.joinpath("stat").read_text().rpartition(")")[2].split()[:4]
            unknown = int(parent) == me and pid not in known and int(session) not in molds
            if state != "Z" and (int(session) == dead or unknown):
                os.kill(pid, signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # gone meanwhile, or another user's by now
            continue


def kill_leftovers(lock: pathlib.Path, mark: str) -> None:
    """SIGKILL for all that a dead master's slots have left: whoever has their lock file open, or their mark in its
    environment. The first are forked children, the second programs that a task has started.
    """
    wanted, marked = str(lock.resolve()), mark.encode()
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            holds = any(os.readlink(each) == wanted for each in entry.joinpath("fd").iterdir())  # noqa: PTH115
            if holds or marked in entry.joinpath("environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)
        except OSError:  # gone meanwhile, or another user's
            continue
