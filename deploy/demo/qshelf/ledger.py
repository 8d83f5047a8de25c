"""What the demo must know after being killed: what was to be done, whether it was put into the queue, whether it ended.

One JSON file, replaced whole. The plan is kept here, apart from the results, so that what is missing can be told from
what was never asked for. It never says what is done: that is read from the results.
"""

import enum
import os
import pathlib
import typing

import msgspec


class Stage(enum.StrEnum):
    """How far a run has come; only ever rises."""

    PLANNED = "planned"  # perhaps some tasks are in the queue
    ENQUEUED = "enqueued"  # all are, or have run; none may be put again, else a loss would be papered over
    ENDED = "ended"


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """One run. ``pictures`` are pairs of photo and thumbnail, ``photos`` says where they are from; ``sessions`` counts
    how often the run was begun, ``killed`` names the slot that was killed on the way.
    """

    run: str
    stage: Stage
    sources: tuple[str, ...]
    pictures: tuple[tuple[str, str], ...]
    photos: str
    sessions: int = 1
    killed: str = ""

    @property
    def directories(self) -> tuple[str, ...]:
        """The directories of which a mail is to be sent."""
        return tuple(sorted({os.path.dirname(path) for path in self.sources}))  # noqa: PTH120

    def at(self, stage: Stage) -> typing.Self:
        """This run, further on."""
        return msgspec.structs.replace(self, stage=stage)

    def again(self) -> typing.Self:
        """This run, begun once more."""
        return msgspec.structs.replace(self, sessions=self.sessions + 1)

    def with_killed(self, what: str) -> typing.Self:
        """This run, its slot killed: once is enough, also for a run that is taken up again."""
        return msgspec.structs.replace(self, killed=what)


def read_ledger(file: pathlib.Path) -> Ledger | None:
    """The ledger, None where there is none; ValueError with the remedy where it cannot be understood."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Ledger)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise ValueError(f"{file}: {error}; remove the file to begin anew") from None


def write_ledger(file: pathlib.Path, ledger: Ledger) -> None:
    """Replace the file, on the disk before it counts: what follows relies on it."""
    unfinished = file.with_suffix(".part")
    with unfinished.open("wb") as opened:
        opened.write(msgspec.json.format(msgspec.json.encode(ledger), indent=1))
        opened.flush()
        os.fsync(opened.fileno())
    unfinished.replace(file)
