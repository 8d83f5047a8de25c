"""A way to a server that can lose the replies, so that what is sent arrives unanswered, or break at one request."""

import contextlib
import pathlib
import socket
import threading


class DeafLine:
    """Listens on a unix socket and passes on to another; while ``loses`` is set, no reply comes through."""

    def __init__(self, folder: pathlib.Path, target: str) -> None:
        self.path = folder / "deaf"
        self.url = f"unix://{self.path}"
        self.loses = False
        self.breaks_at = b""  # the first request with this in it ends its connection, unheard
        self._target = target
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._target)
                threading.Thread(target=self._pass, args=(near, far, False), daemon=True).start()
                threading.Thread(target=self._pass, args=(far, near, True), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, replies: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if not replies and self.breaks_at and self.breaks_at in data:
                    self.breaks_at = b""
                    break
                if not (replies and self.loses):
                    sink.sendall(data)
        for end in (source, sink):
            end.close()

    def close(self) -> None:
        """No new connection; those that are open end with their peers."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
