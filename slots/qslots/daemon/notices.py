"""What the service manager is told: sd_notify, in the few lines that it needs.

Its own module, because what can be installed for it waits on a full socket, raises when the service manager restarts,
knows neither RELOADING nor EXTEND_TIMEOUT_USEC, or needs libsystemd. Here a message that cannot be sent now is said
again in the next turn; without NOTIFY_SOCKET nothing is. All of it comes from the daemon's loop: a beat from anywhere
else would prove nothing. Its children never see the address: they must not speak for it.
"""

import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass
from enum import Enum

EXTENSION = 20.0  # seconds asked for while starting or stopping
EXTEND_EVERY = 5.0
STATUS_EVERY = 1.0  # seconds between two status lines, if what they say changes all the time


class State(Enum):
    """What the service manager knows of a service."""

    STARTING = ""
    RUNNING = "READY=1"
    RELOADING = "RELOADING=1"
    STOPPING = "STOPPING=1"


_MAY_TAKE_LONG = (State.STARTING, State.RELOADING, State.STOPPING)


@dataclass(slots=True)
class Notices:
    """What is due to be said. Pure; ``now`` in monotonic seconds."""

    beat_every: float | None = None
    _state: State = State.STARTING
    _status: str = ""
    _status_at: float = 0.0
    _beat_at: float = 0.0
    _extended_at: float = 0.0

    def due(self, state: State, status: str, now: float) -> list[str]:
        """The lines of the next message, [] for none."""
        lines = []
        is_new = state is not self._state
        if is_new:
            lines.append(state.value)
            if state is State.RELOADING:
                lines.append(f"MONOTONIC_USEC={int(now * 1e6)}")
        if status != self._status and (is_new or now >= self._status_at + STATUS_EVERY):
            lines.append(f"STATUS={status}")
        if self.beat_every is not None and now >= self._beat_at + self.beat_every:
            lines.append("WATCHDOG=1")
        if state in _MAY_TAKE_LONG and (is_new or now >= self._extended_at + EXTEND_EVERY):
            lines.append(f"EXTEND_TIMEOUT_USEC={int(EXTENSION * 1e6)}")
        return lines

    def said(self, lines: list[str], state: State, status: str, now: float) -> None:
        """These were sent."""
        self._state = state
        for line in lines:
            match line.partition("=")[0]:
                case "STATUS":
                    self._status, self._status_at = status, now
                case "WATCHDOG":
                    self._beat_at = now
                case "EXTEND_TIMEOUT_USEC":
                    self._extended_at = now

    def next(self) -> float:
        """When something is due at the latest though nothing happens."""
        beat = float("inf") if self.beat_every is None else self._beat_at + self.beat_every
        if self._state in _MAY_TAKE_LONG:
            return min(beat, self._extended_at + EXTEND_EVERY)
        return beat


class ServiceManager:
    """systemd, or nobody."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        interval, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        ours = interval.isdecimal() and int(interval) > 0 and pid in ("", str(os.getpid()))
        self._notices = Notices(beat_every=int(interval) / 2e6 if ours else None)
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if self._address.startswith(("/", "\0")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def check(self, state: State, status: str, now: float) -> float:
        """Says what is due; returns when to look again."""
        if self._socket is None:
            return float("inf")
        lines = self._notices.due(state, status, now)
        if lines:
            try:
                self._socket.sendto("\n".join(lines).encode(), self._address)
            except OSError:  # it is being restarted, or reads too slowly: what is due stays due
                return now + STATUS_EVERY
            self._notices.said(lines, state, status, now)
        return self._notices.next()
