"""What a master and a mold say to each other over the mold's command socket: one msgpack message a packet."""

import array
import socket
from typing import Any

import msgspec

from qslots.errors import Error
from qslots.reports import Declared
from qslots.settings import Settings

from .findings import Finding
from .revision import Source

LARGEST = 1 << 17


class Begin(msgspec.Struct, tag="begin"):
    """Master to mold: load the application as this generation. With a ``source`` its settings are read anew."""

    generation: int
    settings: Settings
    master: int  # pid
    source: Source | None = None


class Fork(msgspec.Struct, tag="fork"):
    """Master to mold: bear a slot; its end of the channel comes with the packet."""

    index: int
    holder: str


class Reopen(msgspec.Struct, tag="reopen"):
    """Master to mold: open the log file anew."""

    path: str


class Ready(msgspec.Struct, tag="ready"):
    """Mold to master: the application is loaded and frozen."""

    declared: Declared
    modules: int
    seconds: float
    pss: int
    findings: tuple[Finding, ...] = ()  # of the fork-safety audit, the worst first
    slot: int = 0  # bytes of a slot that has done nothing; 0 if they cannot be read
    fork_seconds: float = 0.0  # until it spoke
    settings: Settings | None = None  # as read anew
    later: list[str] = []  # keys of it whose new values wait for a restart of the master

    def document(self) -> dict[str, Any]:
        """What status and check say of it."""
        found = [msgspec.structs.asdict(each) for each in self.findings]
        return {"modules": self.modules, "pss": self.pss, "seconds": self.seconds, "findings": found}


class Refused(msgspec.Struct, tag="refused"):
    """Mold to master: this application cannot be served, and why; one line."""

    why: str


Message = Begin | Fork | Reopen | Ready | Refused
_decoder = msgspec.msgpack.Decoder(Message)


def send(sock: socket.socket, message: Message, descriptor: int | None = None) -> None:
    """Sends one message, a descriptor with it. BlockingIOError if a non-blocking socket is full."""
    control = [] if descriptor is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
    raw = msgspec.msgpack.encode(message)
    if len(raw) > LARGEST:
        raise Error(f"the application declares too much for one message: {len(raw)} bytes")
    sock.sendmsg([raw], control, socket.MSG_NOSIGNAL)


def receive(sock: socket.socket) -> tuple[Message | None, int | None]:
    """The next message with the descriptor that came with it; (None, None) at the end."""
    try:
        raw, control, _, _ = sock.recvmsg(LARGEST, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return None, None
    descriptors = array.array("i")
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return (_decoder.decode(raw) if raw else None), (descriptors[0] if descriptors else None)
