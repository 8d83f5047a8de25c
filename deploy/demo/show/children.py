"""The two processes that the demo keeps: ``qslots up`` and the mail server.

None may outlive the demo, not even one killed with SIGKILL: the mail server hangs on a pipe, ``up`` is told by the
kernel. Each is in a session of its own, so that ^C reaches the demo alone, which then ends them in order.
"""

import asyncio
import asyncio.subprocess
import contextlib
import dataclasses
import pathlib
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping

from qslots.embedded import die_with_parent

from .fleet import qslots_command
from .plan import DemoError, Places

READY_WITHIN = 60.0  # seconds until `qslots up` says so
STOP_WITHIN = 45.0  # `qslots up` gives its slots 30 s to finish
LOOK_AGAIN = 0.05
READY = re.compile(rb"\bready at\b")

Process = asyncio.subprocess.Process


@dataclasses.dataclass(frozen=True, slots=True)
class Crew:
    """Both, at work."""

    up: Process
    mail: Process


@contextlib.asynccontextmanager
async def mail_server(maildir: pathlib.Path, environ: Mapping[str, str]) -> AsyncIterator[tuple[Process, str]]:
    """A mail server that files what it is sent, and its host:port."""
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "show.mailserver", str(maildir),
        env=environ, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert server.stdout is not None
    assert server.stdin is not None
    try:
        port = (await server.stdout.readline()).decode().strip()
        if not port:
            raise DemoError("the mail server did not start; its message is above")
        yield server, f"127.0.0.1:{port}"
    finally:
        server.stdin.close()
        await _ended(server)


@contextlib.asynccontextmanager
async def qslots_up(places: Places, environ: Mapping[str, str], lock: int) -> AsyncIterator[Process]:
    """``qslots up`` on the demo's data folder, ready to work. It keeps ``lock`` for as long as it lives."""
    # A file, not a pipe: when the demo is killed, `up` must still be able to write while it stops.
    with places.log.open("ab") as log:
        start = log.tell()
        up = await asyncio.create_subprocess_exec(
            qslots_command(), "up", "--app", "qshelf.tasks", "--data", str(places.queue),
            env=environ, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, pass_fds=(lock,), preexec_fn=die_with_parent(signal.SIGTERM),
        )  # fmt: skip
    try:
        await _ready(up, places.log, start)
        yield up
    finally:
        with contextlib.suppress(ProcessLookupError):
            up.terminate()
        await _ended(up)


async def _ended(process: Process) -> None:
    """Until a process that was told to end has ended, killed if it takes too long."""
    try:
        await asyncio.wait_for(process.wait(), STOP_WITHIN)
    except TimeoutError:
        process.kill()
        await process.wait()


async def _ready(up: Process, log: pathlib.Path, start: int) -> None:
    try:
        await asyncio.wait_for(_said_so(up, log, start), READY_WITHIN)
    except TimeoutError:
        raise DemoError(f"qslots up was not ready within {READY_WITHIN:.0f} s; see {log}") from None


async def _said_so(up: Process, log: pathlib.Path, start: int) -> None:
    with log.open("rb") as opened:
        opened.seek(start)
        said = b""
        while not READY.search(said):
            if up.returncode is not None:
                raise DemoError(f"qslots up ended before it was ready: {last_line(log)} (more in {log})")
            await asyncio.sleep(LOOK_AGAIN)  # a file tells nobody that it grew
            said += opened.read()


def last_line(log: pathlib.Path) -> str:
    """The last thing that ``qslots up`` said."""
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it left no message")
