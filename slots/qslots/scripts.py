"""The Lua scripts: read from the package once, sent by their digest, loaded again when a server has forgotten them."""

import functools
import hashlib
import importlib.resources
from collections.abc import Sequence

import redis

Argument = str | bytes | int | float


class Script:
    """One operation. ``text`` is what the server gets: for queue operations the prelude stands before it."""

    __slots__ = ("digest", "text")

    def __init__(self, text: str, flags: str) -> None:
        # Redis 7 wants to be told what a script may do when memory is full; older servers do not know the line.
        self.text = f"#!lua flags={flags}\n{text}" if flags else text
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def run(self, client: redis.Redis, keys: Sequence[str], args: Sequence[Argument]) -> object:
        """The reply of the script. Redis errors pass through."""
        try:
            return client.evalsha(self.digest, len(keys), *keys, *args)
        except redis.exceptions.NoScriptError:
            client.script_load(self.text)
            return client.evalsha(self.digest, len(keys), *keys, *args)


@functools.cache
def script(place: str, name: str, flagged: bool) -> Script:
    """The script ``lua/<place>/<name>.lua``; ``flagged`` if the server knows script flags (Redis 7 and later)."""
    folder = importlib.resources.files(__package__) / "lua" / place
    text = (folder / f"{name}.lua").read_text()
    flags = next(line.partition(":")[2] for line in text.splitlines() if line.startswith("-- flags:"))
    if place == "queue":
        text = (folder / "prelude.lua").read_text() + text
    return Script(text, ",".join(flags.split()) if flagged else "")
