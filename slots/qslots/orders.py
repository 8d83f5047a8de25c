"""What a master and a slot say to each other over the slot's channel: one msgpack message a packet."""

import socket

import msgspec

from .debts import Owed


class Born(msgspec.Struct, tag="born"):
    """Slot to master: I am, under this pid, connected and waiting for ``Serve``."""

    pid: int


class Stillborn(msgspec.Struct, tag="stillborn"):
    """Slot to master: I could not begin, and why."""

    why: str


class Serve(msgspec.Struct, tag="serve"):
    """Master to slot: serve these queues from the next pack on."""

    queues: tuple[str, ...]


class Leave(msgspec.Struct, tag="leave"):
    """Master to slot: leave after the task that runs. Said besides SIGTERM, which a task may have taken for itself."""


class Poke(msgspec.Struct, tag="poke"):
    """Master to slot: look for work at once."""


class Reopen(msgspec.Struct, tag="reopen"):
    """Master to slot: open the log file anew before the next pack."""

    path: str


class Fresh(msgspec.Struct, tag="fresh"):
    """Slot to master: what I weigh before my first task, bytes."""

    grown: int  # Private_Dirty + SwapPss: made private by its own writing
    anonymous: int  # all that is no file's: the mold's pages that it shares and swapped ones included


class Tidy(msgspec.Struct, tag="tidy"):
    """Master to slot: between two packs collect garbage, give back what is free, and say what is left."""


class Tidied(msgspec.Struct, tag="tidied"):
    """Slot to master: that is done, and ``grown`` is as of now."""

    grown: int


class Imported(msgspec.Struct, tag="imported"):
    """Slot to master: a pack has imported what the mold had not; memory has grown by so many bytes in this pack (and up
    to a second before it).
    """

    modules: tuple[str, ...]
    bytes: int


OfMemory = Fresh | Tidied | Imported
Order = Born | Stillborn | Serve | Leave | Poke | Reopen | Owed | Tidy | OfMemory
_decoder = msgspec.msgpack.Decoder(Order)
_LARGEST = 1 << 16
_AT_ONCE = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def send(channel: socket.socket, message: Order) -> bool:
    """Sends one message without waiting; False if it is too large, or the other side does not read or is gone."""
    raw = msgspec.msgpack.encode(message)
    if len(raw) > _LARGEST:
        return False
    try:
        channel.send(raw, _AT_ONCE)
    except (BlockingIOError, ConnectionError):
        return False
    return True


def receive(channel: socket.socket) -> Order | None:
    """The next message, or None at the end of the channel. BlockingIOError if a non-blocking channel has none."""
    try:
        raw = channel.recv(_LARGEST)
    except ConnectionResetError:  # it has ended with orders unread: the kernel says so once, before its last words
        raw = channel.recv(_LARGEST)
    return _decoder.decode(raw) if raw else None
