"""The claims of ``qslots.testing``, and what they say where they fail."""

import pytest

import qslots
from qslots import Queue, Task, UsageError
from qslots.testing import Queues


def test_a_queue_that_nobody_serves_is_a_slip_of_the_pen(q: Queues) -> None:
    @qslots.task
    def mail(to: str) -> None: ...

    Queue("elsewhere").put_many([{"n": 1}])
    for look in (q.enqueued, q.buried, q.drain, q.assert_nothing_enqueued):
        look("mail")
        look(mail)
    assert len(q.enqueued(Queue("elsewhere"))) == 1
    for look in (q.enqueued, q.buried, q.drain, q.assert_nothing_enqueued):
        assert not look(Queue("mial"))
        with pytest.raises(
            UsageError, match=r"^no handler here serves queue mial: did you mean mail\? One of others is "
        ):
            look("mial")


def test_claims_are_silent_where_they_hold(q: Queues) -> None:
    @qslots.task
    def resize(photo: str, size: int = 128, tags: tuple[str, ...] = ()) -> None: ...
    @qslots.task
    def index(tasks: list[Task]) -> None: ...

    t = resize.using(delay="10m", collection="spring").enqueue("a.jpg", tags=("x", "y"))
    moment = q.now + 60
    resize.using(id="b", at=moment).enqueue("b.jpg", size=64)
    index.enqueue("doc", lang="de")
    assert q.assert_enqueued(resize, "a.jpg").id == t.id
    q.assert_enqueued(resize)
    q.assert_enqueued(resize, size=64)
    q.assert_enqueued(resize, tags=["x", "y"])
    q.assert_enqueued(resize.using(delay="10m", collection="spring"), "a.jpg")
    q.assert_enqueued(resize.using(id="b", at=moment))
    q.assert_enqueued(index, "doc")
    q.assert_enqueued(index, lang="de")
    q.assert_not_enqueued(resize, "a.jpg", size=64)
    q.assert_not_enqueued(resize.using(delay="9m"))
    q.assert_not_enqueued(index, "other")
    q.assert_nothing_enqueued(Queue("mail"))
    q.advance("5m")
    q.assert_enqueued(resize.using(delay="10m"))  # as it was put
    q.assert_enqueued(resize.using(delay="5m"))  # from now


def test_a_claim_that_fails_says_what_was_wanted_and_what_is_there(q: Queues) -> None:
    @qslots.task(queue="mail", max_failures=1)
    def send(to: str) -> None:
        raise OSError("no such host", to)

    q.freeze()
    with pytest.raises(AssertionError) as nothing:
        q.assert_enqueued(send.using(delay="10m", id="x", collection="c"), "ann")
    assert str(nothing.value) == (
        "no task send('ann') with id x of collection c due in 0:10:00 is enqueued; nothing waits"
    )
    t = send.enqueue("eve")
    q.drain(raises=False)
    u = send.using(delay="30s", collection="c").enqueue("bob")
    with pytest.raises(AssertionError) as other:
        q.assert_enqueued(send, "ann")
    assert str(other.value) == (
        "no task send('ann') is enqueued; what waits:\n"
        f"  mail: send('bob') due in 30 s, id {u.id}, collection c\n"
        "and buried:\n"
        f"  mail: send('eve') fatal_failure, id {t.id}, retries 1, failures 1, OSError: [Errno no such host] eve"
    )
    with pytest.raises(AssertionError, match=r"^send\('bob'\) is enqueued:\n  mail: send\('bob'\) due in 30 s"):
        q.assert_not_enqueued(send, "bob")
    with pytest.raises(AssertionError, match=r"^something is enqueued:\n  mail: send\('bob'\) due in 30 s"):
        q.assert_nothing_enqueued()


def test_a_claim_about_arguments_that_the_handler_does_not_have_is_refused(q: Queues) -> None:
    @qslots.task
    def send(to: str) -> None: ...

    with pytest.raises(qslots.ArgumentsError, match=r"task send .*whom"):
        q.assert_not_enqueued(send, whom="ann")
    with pytest.raises(qslots.UsageError, match="give a handler"):
        q.assert_enqueued("send")  # type: ignore[arg-type]
