"""What is asked over the control socket is checked field by field, and refused with what would be right."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmaster import requests
from qslots.daemon.requests import Status
from qslots.errors import UsageError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        ({"command": "status"}, Status()),
        ({"command": "stop", "fast": True}, requests.Stop(fast=True)),
        ({"command": "drain", "wait": True}, requests.Drain(wait=True)),
        ({"command": "recycle", "slots": [3, 1]}, requests.Recycle(slots=(3, 1))),
        ({"command": "reload"}, requests.Reload(wait=False)),
    ],
)
def test_a_request_is_read(line: dict[str, Any], request_: requests.Request) -> None:
    assert requests.read(json.dumps(line).encode()) == request_


@pytest.mark.parametrize(
    "line",
    [
        b"", b"{", b"[]", b"null", b"status", b'"status"', b"{}", b'{"command": 1}', b'{"command": null}',
        b'{"command": ["status"]}', b'{"command": "nonsense"}', b'{"command": "status", "more": 1}',
        b'{"command": "stop", "fast": 1}', b'{"command": "stop", "fast": "yes"}', b'{"command": "drain", "wait": []}',
        b'{"command": "recycle", "slots": 1}', b'{"command": "recycle", "slots": ["1"]}',
        b'{"command": "recycle", "slots": [1.5]}', b'{"command": "recycle", "slots": null}', b"\xff\xfe\x00",
        b'{"command": "\xff"}', b"[" * 60_000, b'{"command":' * 10_000, b'{"command": "status"} {"command": "stop"}',
        b"9" * 60_000,
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused_with_what_would_be_one(line: bytes) -> None:
    with pytest.raises(UsageError, match=r"commands: status, reload, refork, drain, undrain, recycle, stop$"):
        requests.read(line)


@given(st.binary())
def test_no_bytes_do_anything_else(line: bytes) -> None:
    with pytest.raises(UsageError):
        requests.read(line)


@given(st.sampled_from(requests.COMMANDS), st.dictionaries(st.sampled_from(["fast", "wait", "slots", "all"]), JSON))
def test_fields_of_any_kind_are_taken_or_refused(command: str, fields: dict[str, Any]) -> None:
    try:
        request = requests.read(json.dumps({"command": command, **fields}).encode())
    except UsageError:
        return
    assert all(getattr(request, name) == tuple(value) if name == "slots" else getattr(request, name) is value
               for name, value in fields.items())  # fmt: skip
