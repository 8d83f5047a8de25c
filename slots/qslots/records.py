"""The record of a task as the queue server keeps it. Pure.

A fixed header that Lua can read without decoding, then the arguments as msgpack:

    put time 8 bytes (big-endian double, µs, stamped by the server) | signature 4 bytes
    | length and name of the handler | length and name of the collection | form 1 byte | arguments

All tasks of a call share what stands between the stamp and the form. Large arguments are compressed where that helps.
Where the producer has a trace, form 3 stands there with 25 bytes of it (traces.py), then the form of the arguments.
"""

import functools
import struct
import zlib

import msgspec

from .traces import SIZE as TRACE_SIZE

PLAIN, DEFLATED = b"\1", b"\2"  # forms of the arguments: msgpack, the same compressed by zlib
TRACED = b"\3"  # a trace and another form follow
COMPRESS_FROM = 4096  # bytes; below, it costs more than it saves
LARGEST = 64 << 20  # bytes that compressed arguments may grow to
_NAME = 12  # where the length of the handler's name stands


class Fate(msgspec.Struct, array_like=True):
    """What befell a task so far."""

    retries: int = 0
    failures: int = 0
    crashes: int = 0
    losses: int = 0
    error: str = ""


decode_fate = msgspec.msgpack.Decoder(Fate).decode


class Head(msgspec.Struct, frozen=True):
    """What a record says before its arguments; ``put_time`` in seconds of the server's clock."""

    put_time: float
    signature: int
    handler: str
    collection: str


@functools.lru_cache(1024)
def header(handler: str, signature: int, collection: str = "") -> bytes:
    """What stands between the server's stamp and the form; the same for all tasks of a call."""
    name, label = handler.encode(), collection.encode()
    return struct.pack(">IB", signature, len(name)) + name + bytes([len(label)]) + label


def formed(arguments: bytes) -> bytes:
    """Arguments with their form, as they are stored."""
    if len(arguments) >= COMPRESS_FROM:
        small = zlib.compress(arguments, 1)
        if len(small) < 0.9 * len(arguments):
            return DEFLATED + small
    return PLAIN + arguments


def body(record: bytes) -> bytes:
    """The arguments of a stored record. ValueError if it is not one."""
    try:
        after_name = _NAME + 1 + record[_NAME]
        start = after_name + 1 + record[after_name]
        form = record[start]
        if form == TRACED[0]:
            start += 1 + TRACE_SIZE
            form = record[start]
    except IndexError:
        raise ValueError("a task record that ends in its header") from None
    if form == PLAIN[0]:
        return record[start + 1 :]
    if form != DEFLATED[0]:
        raise ValueError(f"a task record of the unknown form {form}")
    return _inflated(record[start + 1 :])


def trace(record: bytes) -> bytes:
    """The trace of a stored record, 25 bytes; b"" if it has none, or one that the W3C does not know."""
    try:
        after_name = _NAME + 1 + record[_NAME]
        start = after_name + 1 + record[after_name]
        found = record[start + 1 : start + 1 + TRACE_SIZE] if record[start] == TRACED[0] else b""
    except IndexError:
        return b""
    return found if len(found) == TRACE_SIZE and any(found[:16]) and any(found[16:24]) else b""


def traced(head: bytes, trace: bytes) -> bytes:
    """A header (``header``) with the trace behind it, if there is one."""
    return head + TRACED + trace if trace else head


def _inflated(compressed: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        arguments = inflater.decompress(compressed, LARGEST)
    except zlib.error as error:
        raise ValueError(f"a task record whose arguments cannot be decompressed: {error}") from None
    if not inflater.eof:
        raise ValueError("a task record whose compressed arguments are cut off, or too large")
    return arguments


def head(record: bytes) -> Head:
    """The header of a stored record. ValueError if it is not one."""
    try:
        micros, number, size = struct.unpack_from(">dIB", record)
        name = record[_NAME + 1 : _NAME + 1 + size].decode()
        label = record[_NAME + 2 + size :][: record[_NAME + 1 + size]].decode()
    except (struct.error, IndexError, UnicodeDecodeError):
        raise ValueError("a task record whose header cannot be read") from None
    return Head(micros / 1e6, number, name, label)


def put_at(record: bytes) -> float | None:
    """When a stored record was put, in seconds of the server's clock; None if it is none."""
    return float(struct.unpack_from(">d", record)[0]) / 1e6 if len(record) >= 8 else None


def signature(text: str) -> int:
    """32 bits that change when the parameters of a handler change."""
    return zlib.crc32(text.encode())
