"""The processes that the demo starts: ``qslots up``, the mail sink, and the short-lived ``qslots … --json``.

None may outlive the demo, not even one killed with SIGKILL: the sink hangs on a pipe, ``up`` is told by the kernel.
Each is in a session of its own, so that ^C reaches the demo alone, which then ends them in order.
"""

import asyncio
import asyncio.subprocess
import contextlib
import ctypes
import os
import pathlib
import re
import signal
import sys
import typing
from collections.abc import Mapping

import msgspec

from .plan import DemoError, Places

PR_SET_PDEATHSIG = 1
READY_WITHIN = 60.0  # seconds until `qslots up` says so
STOP_WITHIN = 45.0  # `qslots up` gives its slots 30 s to finish
ANSWER_WITHIN = 15.0
LOOK_AGAIN = 0.05
READY = re.compile(rb"\bready\b")
_libc = ctypes.CDLL(None, use_errno=True)  # loaded before any fork
_T = typing.TypeVar("_T")

Process = asyncio.subprocess.Process


async def start_sink(maildir: pathlib.Path, environ: Mapping[str, str]) -> tuple[Process, str]:
    """The mail sink and its host:port."""
    sink = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "qshelf.sink", str(maildir),
        env=environ, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert sink.stdout is not None
    port = (await sink.stdout.readline()).decode().strip()
    if not port:
        raise DemoError("the mail sink did not start; its message is above")
    return sink, f"127.0.0.1:{port}"


async def start_up(places: Places, environ: Mapping[str, str], lock: int) -> Process:
    """``qslots up`` on the demo's data folder, ready to work. It keeps ``lock`` for as long as it lives."""
    parent = os.getpid()
    # A file, not a pipe: when the demo is killed, `up` must still be able to write while it stops.
    with places.log.open("ab") as log:
        start = log.tell()
        up = await asyncio.create_subprocess_exec(
            qslots_command(), "up", "--app", "qshelf.tasks", "--data", str(places.queue),
            env=environ, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, pass_fds=(lock,), preexec_fn=lambda: _die_with(parent),
        )  # fmt: skip
    try:
        await asyncio.wait_for(_until_ready(up, places.log, start), READY_WITHIN)
    except TimeoutError:
        await stop_up(up)
        raise DemoError(f"qslots up was not ready within {READY_WITHIN:.0f} s; see {places.log}") from None
    except BaseException:
        await stop_up(up)
        raise
    return up


async def stop_up(up: Process) -> None:
    """TERM, and KILL if that does not help in time; its own children hang on it."""
    with contextlib.suppress(ProcessLookupError):
        up.terminate()
    try:
        await asyncio.wait_for(up.wait(), STOP_WITHIN)
    except TimeoutError:
        up.kill()
        await up.wait()


async def stop_sink(sink: Process) -> None:
    """End of file on its standard input, and KILL if that does not help in time."""
    assert sink.stdin is not None
    sink.stdin.close()
    try:
        await asyncio.wait_for(sink.wait(), ANSWER_WITHIN)
    except TimeoutError:
        sink.kill()
        await sink.wait()


async def ask(what: str, kind: type[_T], environ: Mapping[str, str]) -> _T | None:
    """The document that ``qslots WHAT --json`` prints; None where it had no answer just now."""
    process = await asyncio.create_subprocess_exec(
        qslots_command(), what, "--json",
        env=environ, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        document, _ = await asyncio.wait_for(process.communicate(), ANSWER_WITHIN)
        return msgspec.json.decode(document, type=kind) if process.returncode == 0 else None
    except (TimeoutError, msgspec.DecodeError):
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def qslots_command() -> str:
    """The qslots command of this interpreter's environment, whatever PATH says."""
    return str(pathlib.Path(sys.executable).with_name("qslots"))


def last_line(log: pathlib.Path) -> str:
    """The last thing that ``qslots up`` said."""
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it left no message")


async def _until_ready(up: Process, log: pathlib.Path, start: int) -> None:
    with log.open("rb") as opened:
        opened.seek(start)
        said = b""
        while not READY.search(said):
            if up.returncode is not None:
                raise DemoError(f"qslots up ended before it was ready: {last_line(log)} (more in {log})")
            await asyncio.sleep(LOOK_AGAIN)  # a file tells nobody that it grew
            said += opened.read()


def _die_with(parent: int) -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the kernel knew of our wish
        os._exit(1)
