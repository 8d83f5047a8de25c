"""A record comes back as it went in; what is not one is a ValueError and never anything else."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qslots.records import VERSION, Fate, body, decode_fate, header, put_time, signature

STAMP = bytes([VERSION]) + struct.pack(">d", 1.5e15)


@given(st.text(max_size=60), st.integers(0, 2**32 - 1), st.text(max_size=60), st.binary(min_size=1, max_size=40))
def test_arguments_and_put_time_come_back(handler: str, crc: int, collection: str, arguments: bytes) -> None:
    stored = STAMP + header(handler, crc, collection) + arguments
    assert bytes(body(stored)) == arguments
    assert put_time(stored) == 1.5e9
    assert struct.unpack_from(">I", stored, 9) == (crc,)


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda tail: STAMP + tail))
def test_garbage_is_a_value_error_or_some_bytes(garbage: bytes) -> None:
    try:
        assert len(body(garbage)) > 0
    except ValueError as error:
        assert "record" in str(error)


@pytest.mark.parametrize("cut", range(len(STAMP + header("resize", 7, "c")) + 1))
def test_record_cut_short_anywhere_is_refused(cut: int) -> None:
    with pytest.raises(ValueError, match="record"):
        body((STAMP + header("resize", 7, "c"))[:cut])


def test_record_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version"):
        body(b"\x02" + (STAMP + header("resize", 7) + b"\x80")[1:])


def test_signature_changes_with_the_parameters() -> None:
    assert signature("photo: str") == signature("photo: str") != signature("photo: str, size: int = 128")


def test_fate_is_read_as_the_scripts_write_it() -> None:
    assert decode_fate(b"\x95\x01\x02\x03\x04\xa3why") == Fate(1, 2, 3, 4, "why")
