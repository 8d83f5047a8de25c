"""The trace that a task belongs to: W3C ``traceparent`` as text, and the 25 bytes of it that a record carries. Pure.

Trace id 16 bytes | span id 8 bytes | flags 1 byte. Of the ``tracestate`` of vendors nothing is carried.
"""

import re

from .errors import UsageError

SIZE = 25
_TEXT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


def parse(text: object, what: str) -> bytes:
    """The bytes of a ``traceparent``, also of later versions of the standard. UsageError if it is none."""
    found = _TEXT.fullmatch(text) if isinstance(text, str) else None
    if found is not None:
        version, trace, span, flags, more = found.groups()
        if version != "ff" and not (version == "00" and more) and trace.strip("0") and span.strip("0"):
            return bytes.fromhex(trace + span + flags)
    raise UsageError(f"{what} is {text!r}: write 00-TRACE-SPAN-FLAGS in lower case hex digits, 32, 16 and 2 of them")


def text(trace: bytes) -> str | None:
    """The ``traceparent`` of these bytes; None of none."""
    return f"00-{trace[:16].hex()}-{trace[16:24].hex()}-{trace[24:].hex()}" if trace else None
