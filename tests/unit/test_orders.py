"""One message a packet between master and slot, never waiting, the end of the channel told apart."""

import socket
from collections.abc import Iterator

import pytest

from qslots.cascades import Children
from qslots.debts import Owed
from qslots.orders import Born, Fresh, Imported, Serve, Stillborn, Tidied, Tidy, receive, send
from qslots.outcomes import Outcome
from qslots.queueserver import Kept

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_messages_come_one_by_one_as_they_were_sent(pair: Pair) -> None:
    owed = Owed(
        "q@b",
        9,
        {2: Outcome("fail", "why", 3, base=1.0)},
        {1: Kept("t", b"r", 9.0)},
        b"\1\0\1",
        0.5,
        cascade={1: [Children("c", "h", b"\0\xff", ["x"], [b"\1\x80"], "+5")]},
    )
    messages = [Born(7), Stillborn("no room"), Serve(("a", "b")), Serve(()), owed]
    messages += [Fresh(2, 3), Tidy(), Tidied(4), Imported(("numpy", "late"), 5)]
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


def test_what_is_too_large_for_a_packet_is_not_sent(pair: Pair) -> None:
    assert send(pair[0], Owed("q@b", 9, marks=b"\1" * 1000))
    assert not send(pair[0], Owed("q@b", 9, outcomes={n: Outcome("fail", "x" * 4000) for n in range(1, 50)}))
    large = Children("c", "h", b"head", ["x"], [b"x" * (1 << 16)], "")
    assert not send(pair[0], Owed("q@b", 9, outcomes={1: Outcome("done")}, cascade={1: [large]}))
    assert receive(pair[1]) == Owed("q@b", 9, marks=b"\1" * 1000)
    with pytest.raises(BlockingIOError):
        receive(pair[1])


def test_last_words_of_one_that_ended_with_orders_unread_are_heard(pair: Pair) -> None:
    ours, theirs = pair
    assert send(theirs, Stillborn("no licence"))
    assert send(ours, Serve(("mail",)))
    theirs.close()
    assert receive(ours) == Stillborn("no licence")
    assert receive(ours) is None
