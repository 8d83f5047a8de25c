"""The few things of Linux that Python does not offer. Each raises OSError as the kernel says it."""

import ctypes
import os
import pathlib
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

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


def thread_names() -> list[str]:
    """The names of all threads of this process, native ones included."""
    return sorted(task.joinpath("comm").read_text().strip() for task in pathlib.Path("/proc/self/task").iterdir())


def kill_session(session: int) -> None:
    """SIGKILL for every process of a session whose leader is dead but not reaped: what a slot has left behind."""
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, _, _, its_session = entry.joinpath("stat").read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state != "Z":
                os.kill(int(entry.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            continue
