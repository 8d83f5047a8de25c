"""Messages over a stream socket, each behind its length; for a side that must not wait and for one that may."""

import socket
import struct
from collections.abc import Iterator

from qslots.errors import Error

_LENGTH = struct.Struct(">I")
_LARGEST = 16 << 20
_PIECE = 1 << 16


class Wire:
    """One end. ``backlog`` is what could not be sent yet."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._out = bytearray()
        self._in = bytearray()

    def fileno(self) -> int:
        """For selectors."""
        return self.sock.fileno()

    @property
    def backlog(self) -> int:
        """Bytes that wait for the other side to read."""
        return len(self._out)

    def send(self, message: bytes) -> None:
        """Queues a message and sends what can be sent. BrokenPipeError when the other side is gone."""
        self._out += _LENGTH.pack(len(message)) + message
        self.flush()

    def flush(self) -> None:
        """Sends what can be sent now (all of it, on a blocking socket)."""
        while self._out:
            try:
                sent = self.sock.send(self._out, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            del self._out[:sent]

    def receive(self) -> Iterator[bytes]:
        """Reads once and yields the messages that are whole; EOFError at the end of the stream."""
        try:
            piece = self.sock.recv(_PIECE)
        except BlockingIOError:
            return
        except ConnectionError:
            piece = b""
        if not piece:
            raise EOFError
        self._in += piece
        while len(self._in) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._in)
            if length > _LARGEST:
                raise Error(f"a message of {length} bytes: the other side speaks another language")
            if len(self._in) < _LENGTH.size + length:
                return
            message = bytes(self._in[_LENGTH.size : _LENGTH.size + length])
            del self._in[: _LENGTH.size + length]
            yield message

    def close(self) -> None:
        """Closes the socket."""
        self.sock.close()
