"""How far a run has come, told from the results on disk alone, and how fast. Nothing here asks the queue."""

import dataclasses
import pathlib

from . import mail, shelf
from .ledger import Ledger
from .plan import Places


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
    def rate(self) -> float:
        """Tasks a second of this session, up to the last that was seen to finish."""
        spent = self.last - self.began
        return (self.done - self.before) / spent if spent > 0 else 0.0

    @property
    def seconds(self) -> float:
        """From the session's begin to the last task that was seen to finish."""
        return self.last - self.began

    def at(self, done: int, now: float) -> "Track":
        """The same track later; repeated results do not count twice."""
        done = min(done, self.total)
        return dataclasses.replace(self, done=done, last=now if done > self.done else self.last)


def begin(run: Ledger, places: Places, now: float) -> tuple[Track, ...]:
    """The three tracks at the begin of a session."""
    totals = {"index": len(run.sources), "thumbnail": len(run.pictures), "notify": len(run.directories)}
    done = measure(places)
    return tuple(
        Track(queue, total, min(done[queue], total), min(done[queue], total), now, now)
        for queue, total in totals.items()
    )


def advance(tracks: tuple[Track, ...], places: Places, now: float) -> tuple[Track, ...]:
    """The tracks after another look at the disk."""
    done = measure(places)
    return tuple(track.at(done[track.queue], now) for track in tracks)


def measure(places: Places) -> dict[str, int]:
    """Results on disk by queue; cheap enough to be asked several times a second."""
    with shelf.open_shelf(places.index) as opened:
        indexed = shelf.count_indexed(opened)
    return {"index": indexed, "thumbnail": _count(places.thumbs), "notify": mail.count_mails(places.maildir)}


def share(tracks: tuple[Track, ...]) -> float:
    """Done of all, 0 to 1."""
    return sum(track.done for track in tracks) / max(1, sum(track.total for track in tracks))


def _count(folder: pathlib.Path) -> int:
    return sum(path.suffix == ".png" for path in folder.iterdir())
