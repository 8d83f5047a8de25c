"""The record of a task as the queue server keeps it. Pure.

A fixed header that Lua can read without decoding, then the arguments as msgpack:

    version 1 byte | put time 8 bytes (big-endian double, µs, stamped by the server) | signature 4 bytes
    | length and name of the handler | length and name of the collection | arguments
"""

import struct
import zlib

import msgspec

VERSION = 1
_NAME = 13  # where the length of the handler's name stands


class Fate(msgspec.Struct, array_like=True):
    """What befell a task so far."""

    retries: int = 0
    failures: int = 0
    crashes: int = 0
    losses: int = 0
    error: str = ""


decode_fate = msgspec.msgpack.Decoder(Fate).decode


def header(handler: str, signature: int, collection: str = "") -> bytes:
    """What stands between the server's stamp and the arguments; the same for all tasks of a call."""
    name, label = handler.encode(), collection.encode()
    return struct.pack(">IB", signature, len(name)) + name + bytes([len(label)]) + label


def body(record: bytes) -> bytes:
    """The arguments of a stored record. ValueError if it is not one."""
    try:
        after_name = _NAME + 1 + record[_NAME]
        start = after_name + 1 + record[after_name]
    except IndexError:
        raise ValueError("a task record that ends in its header") from None
    if record[0] != VERSION:
        raise ValueError("not a task record of a known version")
    if start >= len(record):
        raise ValueError("a task record that ends in its header")
    return record[start:]


def put_time(record: bytes) -> float:
    """When the server stored it, in seconds of the server's clock."""
    micros: float = struct.unpack_from(">d", record, 1)[0]
    return micros / 1e6


def signature(text: str) -> int:
    """32 bits that change when the parameters of a handler change."""
    return zlib.crc32(text.encode())
