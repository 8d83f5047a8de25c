"""Decides what a run is to do, or which interrupted run is to be gone on with, and lays its folders out.

Removes nothing but what an ended run of the demo itself has left: the results and the queue under their own names.
"""

import dataclasses
import enum
import os
import pathlib
import shutil
import time
import typing
import urllib.parse
from collections.abc import Mapping

import msgspec
from qshelf import pictures, shelf, sources

MOST_PICTURES = 600
LONGEST_SOCKET = 100  # the kernel takes 107 bytes


class DemoError(Exception):
    """What ends the demo with one line: what is wrong and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Places:
    """Where everything lies, all under one folder."""

    root: pathlib.Path
    ledger: pathlib.Path  # the plan and how far it has come
    results: pathlib.Path  # what the tasks make, below:
    index: pathlib.Path
    thumbs: pathlib.Path
    maildir: pathlib.Path
    queue: pathlib.Path  # the data folder of `qslots up`
    log: pathlib.Path  # what `qslots up` had to say

    @classmethod
    def under(cls, root: pathlib.Path) -> "Places":
        """The usual layout."""
        results = root / "results"
        return cls(
            root, root / "ledger.json", results, results / "index.db", results / "thumbs", results / "mail",
            root / "queue", root / "up.log",
        )  # fmt: skip

    @classmethod
    def of(cls, environ: Mapping[str, str], cwd: pathlib.Path) -> "Places":
        """Under DEMO_DATA, else ``.qslots/demo`` in the current folder."""
        places = cls.under(cwd / (environ.get("DEMO_DATA") or ".qslots/demo"))
        if len(os.fsencode(places.socket)) > LONGEST_SOCKET:
            raise DemoError(f"{places.socket}: too long for a unix socket; set DEMO_DATA to a shorter path")
        return places

    @property
    def socket(self) -> pathlib.Path:
        """Where ``qslots up`` puts its private queue server."""
        return self.queue / "redis.sock"

    @property
    def url(self) -> str:
        """The private queue server, for clients."""
        return "unix://" + urllib.parse.quote(str(self.socket))


class Stage(enum.StrEnum):
    """How far a run has come; only ever rises."""

    PLANNED = "planned"  # perhaps some tasks are in the queue
    ENQUEUED = "enqueued"  # all are, or have run; none may be put again, else a loss would be papered over
    ENDED = "ended"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo must know after being killed, kept as the ledger. It never says which tasks are done: that is read
    from the results. ``pictures`` are pairs of photo and thumbnail, ``library`` and ``photos`` say where things are
    from; ``sessions`` counts how often the run was begun, ``killed`` names the slot that was killed on the way.
    """

    began: str
    stage: Stage
    sources: tuple[str, ...]
    library: str
    pictures: tuple[tuple[str, str], ...]
    photos: str
    sessions: int = 1
    killed: str = ""

    @property
    def directories(self) -> tuple[str, ...]:
        """The directories of which a mail is to be sent."""
        return tuple(sorted({os.path.dirname(path) for path in self.sources}))  # noqa: PTH120 - thousands of strings

    def at(self, stage: Stage) -> typing.Self:
        """This run, further on."""
        return msgspec.structs.replace(self, stage=stage)

    def again(self) -> typing.Self:
        """This run, begun once more."""
        return msgspec.structs.replace(self, sessions=self.sessions + 1)

    def with_killed(self, what: str) -> typing.Self:
        """This run, its slot killed: once is enough, also for a run that is taken up again."""
        return msgspec.structs.replace(self, killed=what)


def read_ledger(file: pathlib.Path) -> Run | None:
    """The run in the ledger, None where there is none; DemoError with the remedy where it cannot be understood."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Run)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise DemoError(f"{file}: {error}; remove the file to begin anew") from None


def write_ledger(file: pathlib.Path, run: Run) -> None:
    """Replace the ledger, on the disk before it counts: what follows relies on it."""
    unfinished = file.with_suffix(".part")
    with unfinished.open("wb") as opened:
        opened.write(msgspec.json.format(msgspec.json.encode(run), indent=1))
        opened.flush()
        os.fsync(opened.fileno())
    unfinished.replace(file)


def prepare(places: Places, environ: Mapping[str, str]) -> Run:
    """The interrupted run if there is one, else a fresh one; its files are listed and its folders there."""
    former = read_ledger(places.ledger)
    if former is None or former.stage is Stage.ENDED:
        _clear(places)
        run = _new_run(places, environ)
    else:
        run = former.again()
    places.thumbs.mkdir(parents=True, exist_ok=True)  # the queue's folder is made by `up`, for itself alone
    shelf.lay_out(places.index, run.sources)
    write_ledger(places.ledger, run)
    return run


def _clear(places: Places) -> None:
    for folder in (places.results, places.queue):
        shutil.rmtree(folder, ignore_errors=True)
    places.log.unlink(missing_ok=True)
    places.root.mkdir(parents=True, exist_ok=True)


def _new_run(places: Places, environ: Mapping[str, str]) -> Run:
    library = _folder(environ, "SOURCES", sources.library())
    photos = _folder(environ, "PHOTOS", pathlib.Path("/usr/share"))
    listed = sources.find_sources(library)
    if not listed:
        raise DemoError(f"no Python source file under {library}; set SOURCES to a folder that has some")
    found = pictures.find_pictures(photos, MOST_PICTURES)
    used = found or pictures.make_pictures(places.results / "pictures", pictures.MADE)
    return Run(
        began=time.strftime("%Y-%m-%d %H:%M:%S"),
        stage=Stage.PLANNED,
        sources=tuple(listed),
        library=str(library),
        pictures=tuple((photo, pictures.target_of(places.thumbs, photo)) for photo in used),
        photos=f"found under {photos}" if found else f"made, as none was found under {photos}",
    )


def _folder(environ: Mapping[str, str], name: str, otherwise: pathlib.Path) -> pathlib.Path:
    named = environ.get(name)
    folder = pathlib.Path(named or otherwise)
    if named and not folder.is_dir():
        raise DemoError(f"{name}={named}: no such folder; name one that is there, or leave {name} out for {otherwise}")
    return folder.resolve()
