"""What may be asked of a running daemon over its control socket: one JSON object a line. Pure.

Every field is checked; what is not known is refused with the names that are.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from ..errors import UsageError
from ..reports import UNDECODABLE


class Request(msgspec.Struct, tag_field="command", forbid_unknown_fields=True):
    """One line; a kind of request is a subclass with a tag."""


class Status(Request, tag="status"):
    """What the daemon does just now."""


def command(kind: type[Request]) -> str:
    """The word that asks for this."""
    return str(kind.__struct_config__.tag)


def read(line: bytes, decoder: msgspec.json.Decoder[Any], commands: Sequence[str]) -> Any:
    """The request of a line. UsageError with what is wrong with it."""
    try:
        return decoder.decode(line)
    except UNDECODABLE as error:
        form = 'a request is one JSON object a line, such as {"command": "status"}'
        raise UsageError(f"{error}; {form}; commands: {', '.join(commands)}") from None
