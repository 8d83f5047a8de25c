"""The Lua scripts: read from the package once, sent by their digest, loaded again when a server has forgotten them.

Before a script of a queue stands the prelude, then the rooms that its line ``-- with:`` names.
"""

import functools
import hashlib
import importlib.resources
import re
from collections.abc import Callable, Sequence
from typing import Any

import redis

from .connection import Link
from .errors import QueueServerDown

_HEADER = re.compile(r"^-- (with|flags): *(.*)$", re.MULTILINE)
_LOADS = 3  # times that a script is loaded for one call
Argument = str | bytes | int | float


class Script:
    """One operation. ``text`` is what the server gets: for queue operations the prelude stands before it."""

    __slots__ = ("digest", "text")

    def __init__(self, text: str, flags: Sequence[str], flagged: bool) -> None:
        # Redis 7 wants to be told what a script may do when memory is full; older servers do not know the line.
        first = f"#!lua flags={','.join(flags)}\nlocal FLAGGED = true\n" if flagged else "local FLAGGED = false\n"
        self.text = first + text
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def command(self, keys: Sequence[str], args: Sequence[Argument]) -> tuple[Argument, ...]:
        """The words of one call."""
        return ("EVALSHA", self.digest, len(keys), *keys, *args)

    def run(self, link: Link, *commands: tuple[Argument, ...], wait: float = 0.0) -> list[Any]:
        """The replies to calls of this script, and commands behind them, in one round trip. Errors are the link's."""
        for _ in range(_LOADS):
            try:
                return link.calls(*commands, wait=wait)
            except redis.exceptions.NoScriptError:
                link.call("SCRIPT", "LOAD", self.text)
        raise QueueServerDown("the queue server forgets our scripts as fast as they are loaded", sent=False)


@functools.cache
def script(place: str, name: str, flagged: bool) -> Script:
    """The script ``lua/<place>/<name>.lua``; ``flagged`` if the server knows script flags (Redis 7 and later)."""
    return Script(*source(place, name), flagged)


Scripts = Callable[[str, str, bool], Script]  # ``script``, or what stands in for it


def source(place: str, name: str) -> tuple[str, list[str]]:
    """The text of a script with its rooms, and its flags."""
    folder = importlib.resources.files(__package__) / "lua" / place
    text = (folder / f"{name}.lua").read_text()
    header = dict(_HEADER.findall(text))
    rooms = header.get("with", "").split()
    if place == "queue" and rooms != ["nothing"]:
        text = "".join((folder / f"{room}.lua").read_text() for room in ("prelude", *rooms)) + text
    return text, header.get("flags", "").split()
