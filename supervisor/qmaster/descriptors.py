"""What the application has left open while it was imported, by file descriptor: sockets, queues of events, files.

Who has opened one is not known to the kernel; what it is and what it leads to is. Closes nothing.
"""

import contextlib
import os
import socket
from collections.abc import Container

from .findings import Finding, found

_GPU = ("/dev/nvidia", "/dev/kfd", "/dev/dri/")
_HARMLESS = ("/dev/null", "/dev/urandom", "/dev/random", "/dev/shm/", "/memfd:")  # meant to be shared, or no state


def opened() -> dict[int, str]:
    """Descriptor -> what the kernel calls it, of all that are open now."""
    links = {}
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names, not paths
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            links[int(name)] = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115
    return links


def left_open(before: dict[int, str], accounted: Container[int | str]) -> list[Finding]:
    """Findings for all that were not open before; of those accounted for, descriptors or paths, more is known."""
    new = ((number, link) for number, link in opened().items() if before.get(number) != link)
    rest = ((number, link) for number, link in new if number not in accounted and link not in accounted)
    return [finding for number, link in rest if (finding := _finding(number, link)) is not None]


def _finding(number: int, link: str) -> Finding | None:
    where = f"fd {number}"
    if link.startswith("socket:"):
        return _socket(number, where)
    if link.startswith(("anon_inode:[eventpoll]", "anon_inode:inotify", "anon_inode:[signalfd]")):
        return found("event descriptor", f"{link.partition(':')[2].strip('[]')} descriptor", where)
    if link.startswith(_GPU):
        return found("gpu", f"the GPU is in use: {link}", where)
    if link.startswith(("pipe:", "anon_inode:")):
        return found("descriptor", f"open {link.removeprefix('anon_inode:').strip('[]').partition(':')[0]}", where)
    if link.startswith(_HARMLESS):
        return None
    return found("file", f"open file {link}", where)


def _socket(number: int, where: str) -> Finding:
    with socket.socket(fileno=os.dup(number)) as there:
        if there.type == socket.SOCK_STREAM and there.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return found("listening socket", f"socket that listens at {_address(there.getsockname())}", where)
        try:
            peer = _address(there.getpeername())
        except OSError:
            peer = ""
        to = f"socket to {peer}" if peer else "socket"
        return found("datagram socket" if there.type == socket.SOCK_DGRAM else "socket", f"open {to}", where)


def _address(name: object) -> str:
    if isinstance(name, tuple) and len(name) >= 2:
        return f"{name[0]}:{name[1]}"
    return (name.decode(errors="replace") if isinstance(name, bytes) else str(name)).replace("\0", "@") or "its pair"
