"""What may be asked of a running master over its control socket. Pure."""

from typing import get_args

import msgspec

from qslots.daemon.requests import Request as _Request
from qslots.daemon.requests import Status, command
from qslots.daemon.requests import read as _read


class Reload(_Request, tag="reload"):
    """Read the settings again and load the application anew, as HUP does."""

    wait: bool = False


class Refork(_Request, tag="refork"):
    """Load the application anew with the settings that are in force, as USR2 does."""

    wait: bool = False


class Drain(_Request, tag="drain"):
    """All slots leave after their task and no other comes, as WINCH does."""

    wait: bool = False


class Undrain(_Request, tag="undrain"):
    """The slots come back."""


class Recycle(_Request, tag="recycle"):
    """These slots, or all, leave after their task and are forked again."""

    slots: tuple[int, ...] = ()
    all: bool = False


class Stop(_Request, tag="stop"):
    """End; answered when all slots are gone."""

    fast: bool = False


Request = Status | Reload | Refork | Drain | Undrain | Recycle | Stop
COMMANDS = tuple(map(command, get_args(Request)))
_decoder = msgspec.json.Decoder(Request)


def read(line: bytes) -> Request:
    """The request of a line. UsageError with what is wrong with it."""
    found: Request = _read(line, _decoder, COMMANDS)
    return found
