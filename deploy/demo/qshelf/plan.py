"""Decides what a run is to do, or which interrupted run is to be gone on with, and lays the results folder out.

Removes nothing but what an ended run of the demo itself has left: the results and the queue under their own names.
"""

import dataclasses
import os
import pathlib
import shutil
import time
import urllib.parse
from collections.abc import Mapping

from . import ledger, pictures, shelf, sources

MOST_PICTURES = 600
LONGEST_SOCKET = 100  # the kernel takes 107 bytes


class DemoError(Exception):
    """What ends the demo with one line: what is wrong and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Places:
    """Where everything lies, all under one folder."""

    root: pathlib.Path

    @classmethod
    def of(cls, environ: Mapping[str, str], cwd: pathlib.Path) -> "Places":
        """From DEMO_DATA, else ``.qslots/demo`` in the current folder."""
        places = cls(cwd / (environ.get("DEMO_DATA") or ".qslots/demo"))
        if len(os.fsencode(places.socket)) > LONGEST_SOCKET:
            raise DemoError(f"{places.socket}: too long for a unix socket; set DEMO_DATA to a shorter path")
        return places

    @property
    def ledger(self) -> pathlib.Path:
        """The plan and how far it has come."""
        return self.root / "ledger.json"

    @property
    def results(self) -> pathlib.Path:
        """What the tasks make."""
        return self.root / "results"

    @property
    def index(self) -> pathlib.Path:
        """The full-text index."""
        return self.results / "index.db"

    @property
    def thumbs(self) -> pathlib.Path:
        """The thumbnails."""
        return self.results / "thumbs"

    @property
    def maildir(self) -> pathlib.Path:
        """The mails that were sent."""
        return self.results / "mail"

    @property
    def queue(self) -> pathlib.Path:
        """The data folder of ``qslots up``."""
        return self.root / "queue"

    @property
    def socket(self) -> pathlib.Path:
        """Where ``qslots up`` puts its private queue server."""
        return self.queue / "redis.sock"

    @property
    def url(self) -> str:
        """The private queue server, for clients."""
        return "unix://" + urllib.parse.quote(str(self.socket))

    @property
    def log(self) -> pathlib.Path:
        """What ``qslots up`` had to say."""
        return self.root / "up.log"


def prepare(places: Places, environ: Mapping[str, str]) -> ledger.Ledger:
    """The interrupted run if there is one, else a fresh one; its files are listed and its folders there."""
    try:
        former = ledger.read_ledger(places.ledger)
    except ValueError as error:
        raise DemoError(str(error)) from None
    if former is None or former.stage is ledger.Stage.ENDED:
        _clear(places)
        run = _new_run(places, environ)
    else:
        run = former.again()
    places.thumbs.mkdir(parents=True, exist_ok=True)  # the queue's folder is made by `up`, for itself alone
    shelf.lay_out(places.index, run.sources)
    ledger.write_ledger(places.ledger, run)
    return run


def _clear(places: Places) -> None:
    for folder in (places.results, places.queue):
        shutil.rmtree(folder, ignore_errors=True)
    places.log.unlink(missing_ok=True)
    places.root.mkdir(parents=True, exist_ok=True)


def _new_run(places: Places, environ: Mapping[str, str]) -> ledger.Ledger:
    photos = _photos_folder(environ)
    found = pictures.find_pictures(photos, MOST_PICTURES)
    used = found or pictures.make_pictures(places.results / "pictures")
    return ledger.Ledger(
        run=time.strftime("%Y-%m-%d %H:%M:%S"),
        stage=ledger.Stage.PLANNED,
        sources=tuple(sources.find_sources(sources.library())),
        pictures=tuple((photo, pictures.target_of(places.thumbs, photo)) for photo in used),
        photos=f"found under {photos}" if found else f"made, as none was found under {photos}",
    )


def _photos_folder(environ: Mapping[str, str]) -> pathlib.Path:
    photos = pathlib.Path(environ.get("PHOTOS") or "/usr/share")
    if environ.get("PHOTOS") and not photos.is_dir():
        raise DemoError(f"PHOTOS={photos}: no such folder; name one with pictures, or leave PHOTOS out for /usr/share")
    return photos.resolve()
