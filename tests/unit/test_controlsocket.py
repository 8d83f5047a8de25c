"""The control socket, turn by turn: whatever a client does, others are answered, and nothing is kept without bounds."""

import contextlib
import json
import pathlib
import selectors
import socket
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from support.properties import examples

from qmaster import requests
from qslots.daemon import controlsocket as control
from qslots.daemon.controlsocket import ControlSocket, Reply
from qslots.daemon.requests import Status
from qslots.errors import Error

STATUS = b'{"command": "status"}\n'


class Desk:
    """A control socket whose answers the test gives, with the loop that serves it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.path = folder / "c.sock"
        self.selector = selectors.DefaultSelector()
        self.open()
        self.asked: list[requests.Request] = []
        self.replies: list[Reply] = []
        self.answer: dict[str, Any] | None = {"ok": True}
        self.clients: list[socket.socket] = []

    def open(self) -> None:
        self.socket = ControlSocket(self.path, self.selector, who="qmaster", read=requests.read, answer=self._asked)

    def _asked(self, request: requests.Request, reply: Reply) -> None:
        self.asked.append(request)
        if isinstance(request, requests.Stop):
            raise ZeroDivisionError("a fault of ours")
        if self.answer is None:
            self.replies.append(reply)
        else:
            reply(self.answer)

    def turn(self, times: int = 1, later: float = 0.0) -> float:
        """As the master's loop; returns when to look again, in seconds."""
        again = float("inf")
        for _ in range(times):
            for key, _mask in self.selector.select(0):
                if key.fd in self.selector.get_map():
                    key.data()
            again = self.socket.check(time.monotonic() + later)
        return again - time.monotonic()

    def connect(self, *said: bytes) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        self.clients.append(client)
        client.setblocking(False)
        client.connect(str(self.path))
        self.turn()
        for each in said:
            client.sendall(each)
        return client

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.socket.close()
        self.selector.close()


@pytest.fixture
def desk() -> Iterator[Desk]:
    with tempfile.TemporaryDirectory(prefix="qc-", dir="/tmp") as folder:
        made = Desk(pathlib.Path(folder))
        yield made
        made.close()


def heard(client: socket.socket, most: int = 1 << 20) -> bytes:
    """What has come, b"" for nothing."""
    try:
        return client.recv(most)
    except BlockingIOError:
        return b""


def is_cut(client: socket.socket) -> bool:
    try:
        return client.recv(1 << 20) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def works(desk: Desk) -> bool:
    """Whether the next client is answered."""
    desk.answer = {"ok": True}
    client = desk.connect(STATUS)
    desk.turn(2)
    return heard(client) == b'{"ok":true}\n'


def test_the_socket_is_for_its_user_alone(desk: Desk) -> None:
    assert desk.path.stat().st_mode & 0o777 == 0o600


def test_several_requests_of_one_connection_are_answered_in_order_one_a_turn(desk: Desk) -> None:
    client = desk.connect(STATUS + b'{"command": "undrain"}\n' + STATUS)
    assert desk.turn() <= 0
    assert len(desk.asked) == 1
    desk.turn(3)
    assert [type(each) for each in desk.asked] == [Status, requests.Undrain, Status]
    assert heard(client).count(b"\n") == 3


def test_an_answer_of_any_size_goes_out_as_the_client_reads(desk: Desk) -> None:
    desk.answer = {"long": "x" * (8 << 20)}
    client = desk.connect(STATUS)
    desk.turn(2)
    got = bytearray()
    while not got.endswith(b"\n"):
        got += heard(client, 100_000)
        desk.turn()
    assert len(json.loads(got)["long"]) == 8 << 20
    client.sendall(STATUS)  # and the connection goes on
    desk.turn(2)
    assert heard(client)


def test_an_answer_that_is_too_large_is_an_error(desk: Desk) -> None:
    desk.answer = {"long": "x" * (control.LARGEST_ANSWER + 1)}
    client = desk.connect(STATUS)
    desk.turn(2)
    assert "too many" in json.loads(heard(client))["error"]


@pytest.mark.parametrize("answer", [{"odd": object()}, {"odd": "\udcff"}])
def test_an_answer_that_cannot_be_written_is_an_error(desk: Desk, answer: dict[str, Any]) -> None:
    desk.answer = answer
    client = desk.connect(STATUS)
    desk.turn(2)
    assert "cannot be written" in json.loads(heard(client))["error"]
    assert works(desk)


def test_who_does_not_read_is_cut_and_served_no_further_meanwhile(desk: Desk) -> None:
    desk.answer = {"long": "x" * (4 << 20)}
    client = desk.connect(STATUS * 5)
    desk.turn(5)
    assert len(desk.asked) == 1
    assert 0 < desk.turn() <= control.READ_WITHIN
    assert works(desk)
    desk.turn(later=control.READ_WITHIN + 1)
    while heard(client):
        pass
    assert is_cut(client)
    assert works(desk)


def test_an_answer_may_come_later_and_the_next_request_waits_for_it(desk: Desk) -> None:
    desk.answer = None
    client = desk.connect(b'{"command": "drain", "wait": true}\n', STATUS)
    desk.turn(3)
    assert len(desk.asked) == 1
    assert works(desk)
    desk.replies[0]({"late": True})
    desk.replies[0]({"late": "again"})
    desk.turn(2)
    assert heard(client).splitlines() == [b'{"late":true}', b'{"ok":true}']


def test_who_hangs_up_while_waiting_is_forgotten(desk: Desk) -> None:
    desk.answer = None
    desk.connect(STATUS)
    desk.turn()
    desk.turn()
    desk.clients[0].close()
    desk.turn()
    desk.replies[0]({"late": True})
    assert works(desk)


def test_who_says_no_more_still_gets_its_answers(desk: Desk) -> None:
    client = desk.connect(STATUS * 3)
    client.shutdown(socket.SHUT_WR)
    desk.turn(6)
    assert heard(client).count(b"\n") == 3
    assert is_cut(client)


def test_half_a_line_waits_for_its_other_half(desk: Desk) -> None:
    client = desk.connect(STATUS[:9])
    desk.turn(3)
    assert desk.asked == []
    client.sendall(STATUS[9:])
    desk.turn(2)
    assert heard(client) == b'{"ok":true}\n'


def test_a_line_without_end_is_refused_and_cut(desk: Desk) -> None:
    client = desk.connect()
    for _ in range(200):
        with contextlib.suppress(BlockingIOError, ConnectionError):
            client.send(b"x" * 4096)
        desk.turn()
    assert "at most" in json.loads(heard(client))["error"]
    assert works(desk)


def test_a_fault_of_ours_is_an_error_of_one_answer(desk: Desk) -> None:
    client = desk.connect(b'{"command": "stop"}\n' + STATUS)
    desk.turn(4)
    first, second = heard(client).splitlines()
    assert "a fault of ours" in json.loads(first)["error"]
    assert second == b'{"ok":true}'


def test_of_too_many_clients_the_idlest_is_cut_and_never_one_that_waits(desk: Desk) -> None:
    desk.answer = None
    waiting = desk.connect(STATUS)
    desk.turn(2)
    idle = [desk.connect() for _ in range(control.MOST - 1)]
    assert not is_cut(idle[0])
    more = [desk.connect() for _ in range(1000)]
    assert all(map(is_cut, idle))
    assert not is_cut(waiting)
    assert not is_cut(more[-1])
    assert works(desk)
    desk.replies[0]({"late": True})
    assert heard(waiting) == b'{"late":true}\n'


def test_where_all_wait_a_newcomer_is_refused(desk: Desk) -> None:
    desk.answer = None
    for _ in range(control.MOST):
        desk.connect(STATUS)
    desk.turn(2)
    assert is_cut(desk.connect())
    desk.replies[0]({"late": True})
    assert heard(desk.clients[0])
    assert works(desk)


@examples(50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=200) | st.sampled_from([b"\n", STATUS, STATUS[:5]]), max_size=10), st.booleans())
def test_whatever_is_said_the_next_is_answered(desk: Desk, said: list[bytes], hang_up: bool) -> None:
    client = desk.connect()
    for each in said:
        client.sendall(each)
        desk.turn()
    if hang_up:
        client.close()
    desk.turn(3)
    assert works(desk)
    for each in desk.clients:
        each.close()
    desk.clients.clear()
    desk.turn(2)


def test_the_end_tells_who_waits(desk: Desk) -> None:
    client = desk.connect(STATUS)
    desk.turn(2)
    desk.socket.close()
    assert heard(client) and is_cut(client)
    desk.open()


def test_where_no_socket_can_be_made_an_error_says_so(tmp_path: pathlib.Path) -> None:
    (tmp_path / "c.sock").mkdir()
    with pytest.raises(Error, match=r"c\.sock cannot be made: .*Is a directory"):
        Desk(tmp_path)
