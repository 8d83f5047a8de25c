"""The rack's power switch: a unix socket that fence agents in the nodes reach by its path, across all namespaces.

One request a connection, ``ACTION NODE``; the answer is ``ok``, ``on``, ``off`` or what is wrong. ``reboot`` is
answered when the last process of the node is gone: what fencing promises. Each press is remembered.
"""

import contextlib
import socket
import threading

from cluster.rack import Rack

PATIENCE = 5.0  # s


class PowerSwitch:
    """Serves from its own thread until closed."""

    def __init__(self, rack: Rack) -> None:
        self.path = rack.folder / "power"
        self.pressed: list[tuple[str, str]] = []
        self.broken = False
        self._rack = rack
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(self.path))
        self._socket.listen(16)
        self._thread = threading.Thread(target=self._serve, name="power switch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self._socket.accept()
            except OSError:
                return  # closed
            with line, contextlib.suppress(OSError):  # who has asked may be off, or frozen, by now
                line.settimeout(PATIENCE)
                self._answer(line)

    def _answer(self, line: socket.socket) -> None:
        action, _, name = line.recv(256).decode().strip().partition(" ")
        try:
            line.sendall(self._press(action, name).encode())
        finally:
            if action in ("on", "reboot") and name in self._rack.names and not self.broken:
                self._rack.on(name)

    def _press(self, action: str, name: str) -> str:
        if name not in self._rack.names:
            return f"there is no node {name}"
        if action == "status":
            return "on" if self._rack.is_on(name) else "off"
        if action not in ("on", "off", "reboot"):
            return f"what is {action}?"
        self.pressed.append((action, name))
        if self.broken:
            return "no power switch answers"
        if action != "on":
            self._rack.off(name)
        return "ok"
