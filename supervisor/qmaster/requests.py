"""What may be asked of a running master over its control socket: one JSON object a line. Pure.

Every field is checked; what is not known is refused with the names that are.
"""

from typing import get_args

import msgspec

from qslots.errors import UsageError


class _Request(msgspec.Struct, tag_field="command", forbid_unknown_fields=True):
    """One line."""


class Status(_Request, tag="status"):
    """What the master does just now."""


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
COMMANDS = tuple(str(kind.__struct_config__.tag) for kind in get_args(Request))
_decoder = msgspec.json.Decoder(Request)


def read(line: bytes) -> Request:
    """The request of a line. UsageError with what is wrong with it."""
    try:
        found: Request = _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        form = 'a request is one JSON object a line, such as {"command": "status"}'
        raise UsageError(f"{error}; {form}; commands: {', '.join(COMMANDS)}") from None
    return found
