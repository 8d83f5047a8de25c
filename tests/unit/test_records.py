"""A record comes back as it went in; what is not one is a ValueError and never anything else."""

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslots.records import COMPRESS_FROM, Fate, Head, body, decode_fate, formed, head, header, signature, trace, traced

STAMP = struct.pack(">d", 1.5e15)


@given(st.text(max_size=60), st.integers(0, 2**32 - 1), st.text(max_size=60), st.binary(min_size=1, max_size=40))
def test_header_and_arguments_come_back(handler: str, crc: int, collection: str, arguments: bytes) -> None:
    stored = STAMP + header(handler, crc, collection) + formed(arguments)
    assert bytes(body(stored)) == arguments
    assert head(stored) == Head(1.5e9, crc, handler, collection)


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda tail: STAMP + tail))
def test_garbage_is_a_value_error_or_some_bytes(garbage: bytes) -> None:
    for read in (body, head):
        try:
            assert read(garbage) is not None
        except ValueError as error:
            assert "record" in str(error)


@pytest.mark.parametrize("cut", range(len(STAMP + header("resize", 7, "c")) + 1))
def test_record_cut_short_anywhere_is_refused(cut: int) -> None:
    with pytest.raises(ValueError, match="record"):
        body((STAMP + header("resize", 7, "c"))[:cut])


def test_record_of_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown form 9"):
        body(STAMP + header("resize", 7) + b"\x09\x80")


def test_large_arguments_are_compressed_and_come_back() -> None:
    arguments = b"to be or not to be " * COMPRESS_FROM
    stored = STAMP + header("resize", 7) + formed(arguments)
    assert len(stored) < len(arguments) / 10
    assert body(stored) == arguments


def test_what_does_not_shrink_is_stored_as_it_is() -> None:
    arguments = random.Random(1).randbytes(COMPRESS_FROM)
    assert formed(arguments) == b"\1" + arguments


@pytest.mark.parametrize("cut", [0, 1, 20, -1])
def test_compressed_arguments_cut_short_are_refused(cut: int) -> None:
    stored = STAMP + header("resize", 7) + formed(b"again " * COMPRESS_FROM)
    place = stored.index(b"\2\x78") + 1
    with pytest.raises(ValueError, match=r"cannot be decompressed|cut off"):
        body(stored[: place + cut] if cut >= 0 else stored[:-1])


def test_signature_changes_with_the_parameters() -> None:
    assert signature("photo: str") == signature("photo: str") != signature("photo: str, size: int = 128")


def test_fate_is_read_as_the_scripts_write_it() -> None:
    assert decode_fate(b"\x95\x01\x02\x03\x04\xa3why") == Fate(1, 2, 3, 4, "why")


@pytest.mark.parametrize("zeros", [slice(0, 16), slice(16, 24), slice(0, 25)])
def test_trace_of_zeros_is_none(zeros: slice) -> None:
    found = bytearray(range(1, 26))
    assert trace(STAMP + traced(header("work", 1), bytes(found)) + formed(b"")) == bytes(found)
    found[zeros] = bytes(len(found[zeros]))
    assert trace(STAMP + traced(header("work", 1), bytes(found)) + formed(b"")) == b""
