"""What slots owe to queue servers that are away, on the runtime folder beside the scoreboard: it outlives the master.

One file an incarnation, on tmpfs: writing it waits for nothing. It grows until all is paid, then it is empty again.
Paying twice does no harm, so that a successor pays all that stands there.
"""

import logging
import os
import pathlib
import struct

import msgspec

from qslots.reports import UNDECODABLE

from .letters import Pay

log = logging.getLogger("qmaster")
_LENGTH = struct.Struct(">I")


class Ledger:
    """The debts of this master's slots."""

    def __init__(self, board: pathlib.Path) -> None:
        self._path = path_beside(board)
        self._file: int | None = None
        self._open = 0
        self._warned = False

    def owe(self, letter: Pay) -> None:
        """A debt, written down before it is paid."""
        self._open += 1
        raw = msgspec.msgpack.encode(letter)
        try:
            if self._file is None:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                self._file = os.open(self._path, flags, 0o600)
            os.write(self._file, _LENGTH.pack(len(raw)) + raw)
        except OSError as error:  # the tmpfs is full
            if not self._warned:
                self._warned = True
                log.warning(
                    "%s cannot be written: %s; what is owed is lost with this master", self._path, error.strerror
                )

    def paid(self) -> None:
        """One of them is paid."""
        self._open -= 1
        if self._open == 0 and self._file is not None:
            os.ftruncate(self._file, 0)


def path_beside(board: pathlib.Path) -> pathlib.Path:
    """Where the debts of the master of this scoreboard stand."""
    return board.with_suffix(".debts")


def left_beside(board: pathlib.Path) -> list[Pay]:
    """The debts of a master that is gone. What was being written when it was killed is not there."""
    try:
        raw = path_beside(board).read_bytes()
    except FileNotFoundError:
        return []
    found, start = [], 0
    while start + _LENGTH.size <= len(raw):
        (length,) = _LENGTH.unpack_from(raw, start)
        start += _LENGTH.size
        try:
            found.append(msgspec.msgpack.decode(raw[start : start + length], type=Pay))
        except UNDECODABLE:
            break
        start += length
    return found
