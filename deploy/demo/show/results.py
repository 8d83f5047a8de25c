"""How far a run has come and what is missing at its end: both are read from the results on disk, not from the queue.

``lost`` counts results that are missing and whose task the queue has not buried: a buried task is not lost, it lies
there with its reason.
"""

import dataclasses
import pathlib
from collections.abc import Iterable, Sequence

from qshelf import mail, pictures, shelf

from .fleet import Queue
from .plan import Places, Run

THUMBNAIL_SIZE = 128


@dataclasses.dataclass(frozen=True, slots=True)
class Track:
    """One queue's way: ``done`` of ``total``, ``before`` of them when this session began; times in seconds."""

    queue: str
    total: int
    before: int
    done: int
    began: float
    last: float

    @property
    def seconds(self) -> float:
        """From the session's begin to the last task that was seen to finish."""
        return self.last - self.began

    def rate(self, now: float) -> float:
        """Tasks a second of this session so far; once all are done, up to the last that was seen to finish."""
        spent = (self.last if self.done == self.total else now) - self.began
        return (self.done - self.before) / spent if spent > 0 else 0.0

    def at(self, done: int, now: float) -> "Track":
        """The same track later; repeated results do not count twice."""
        done = min(done, self.total)
        return dataclasses.replace(self, done=done, last=now if done > self.done else self.last)


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """One queue's results: wanted, missing on disk, buried in the queue."""

    queue: str
    wanted: int
    missing: int
    buried: int

    @property
    def lost(self) -> int:
        """Missing without a reason."""
        return max(0, self.missing - self.buried)


def begin(run: Run, places: Places, now: float) -> tuple[Track, ...]:
    """The tracks at the begin of a session, in the order of the work."""
    done = measure(places)
    return tuple(
        Track(queue, total, min(done[queue], total), min(done[queue], total), now, now)
        for queue, total in wanted(run).items()
    )


def advance(tracks: tuple[Track, ...], places: Places, now: float) -> tuple[Track, ...]:
    """The tracks after another look at the disk."""
    done = measure(places)
    return tuple(track.at(done[track.queue], now) for track in tracks)


def wanted(run: Run) -> dict[str, int]:
    """How many results each queue owes."""
    return {"index": len(run.sources), "thumbnail": len(run.pictures), "notify": len(run.directories)}


def measure(places: Places) -> dict[str, int]:
    """Results on disk by queue; cheap enough to be asked several times a second."""
    with shelf.open_shelf(places.index) as opened:
        indexed = shelf.count_indexed(opened)
    return {"index": indexed, "thumbnail": _count(places.thumbs), "notify": mail.count_mails(places.maildir)}


def share(tracks: Sequence[Track]) -> float:
    """Done of all, 0 to 1."""
    return sum(track.done for track in tracks) / max(1, sum(track.total for track in tracks))


def inspect(run: Run, places: Places, queues: Iterable[Queue]) -> tuple[Outcome, ...]:
    """Look at every single result: sections counted, thumbnails decoded, Message-IDs read."""
    buried = {queue.name: queue.buried for queue in queues}
    with shelf.open_shelf(places.index) as opened:
        intact = shelf.intact_files(opened)
    seen = set(mail.message_ids(places.maildir))
    missing = {
        "index": sum(path not in intact for path in run.sources),
        "thumbnail": sum(not pictures.is_thumbnail(target, THUMBNAIL_SIZE) for _, target in run.pictures),
        "notify": sum(mail.message_id(directory) not in seen for directory in run.directories),
    }
    return tuple(Outcome(name, total, missing[name], buried.get(name, 0)) for name, total in wanted(run).items())


def total_lost(outcomes: Iterable[Outcome]) -> int:
    """Over all queues."""
    return sum(outcome.lost for outcome in outcomes)


def _count(folder: pathlib.Path) -> int:
    return sum(path.suffix == ".png" for path in folder.iterdir())
