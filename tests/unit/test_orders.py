"""One message a packet between master and slot, never waiting, the end of the channel told apart."""

import socket
from collections.abc import Iterator

import pytest

from qslots.orders import Born, Serve, Stillborn, receive, send

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_messages_come_one_by_one_as_they_were_sent(pair: Pair) -> None:
    messages = [Born(7), Stillborn("no room"), Serve(("a", "b")), Serve(())]
    assert all(send(pair[0], message) for message in messages)
    assert [receive(pair[1]) for _ in messages] == messages


def test_channel_without_a_message_does_not_wait_and_its_end_is_none(pair: Pair) -> None:
    with pytest.raises(BlockingIOError):
        receive(pair[1])
    pair[0].close()
    assert receive(pair[1]) is None


def test_sending_to_one_who_does_not_read_or_is_gone_is_false_and_never_waits(pair: Pair) -> None:
    assert any(not send(pair[0], Serve(("queue",) * 1000)) for _ in range(10_000))
    pair[1].close()
    assert not send(pair[0], Serve(()))
