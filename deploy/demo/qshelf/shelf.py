"""The full-text index: one SQLite file, written by many processes at once, a pack of source files a transaction.

A connection must never be carried over a fork, so it is opened for each use. Whatever is written is written under
row numbers that follow from the file, so writing it again replaces it: no row is ever there twice.
"""

import contextlib
import dataclasses
import os
import pathlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from .sources import Page

SECTIONS_A_FILE = 1 << 20  # row numbers of a file's sections: file * this + position
WAIT_FOR_WRITER = 60.0  # seconds; the other slots' transactions take a fraction of one

SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, directory TEXT NOT NULL,
    lines INTEGER, cuts INTEGER  -- both NULL until the file is in the index
);
CREATE INDEX IF NOT EXISTS files_of_directory ON files (directory);
CREATE TABLE IF NOT EXISTS told (directory TEXT PRIMARY KEY);  -- those whose mail is on its way
CREATE VIRTUAL TABLE IF NOT EXISTS sections USING fts5 (
    name, body, line UNINDEXED, tokenize = "unicode61", prefix = "2 3"  -- prefixes: to search while typing
);
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Hit:
    """One answer of a search: where it is and the words around, the found ones in [brackets]."""

    path: str
    line: int
    name: str
    snippet: str


@contextlib.contextmanager
def open_shelf(file: pathlib.Path) -> Iterator[sqlite3.Connection]:
    """A connection for one use, waiting for other writers instead of failing."""
    connection = sqlite3.connect(file, timeout=WAIT_FOR_WRITER, isolation_level=None)
    with contextlib.closing(connection):
        yield connection


def lay_out(file: pathlib.Path, paths: Iterable[str]) -> None:
    """Make the index (or find it made) and list the files to come; only so is a directory known to be complete."""
    with open_shelf(file) as shelf:
        shelf.execute("PRAGMA journal_mode = WAL")
        shelf.executescript(SCHEMA)
        with _transaction(shelf):
            shelf.executemany(
                "INSERT OR IGNORE INTO files (path, directory) VALUES (?, ?)",
                ((path, os.path.dirname(path)) for path in paths),  # noqa: PTH120 - thousands of plain strings
            )


def put(shelf: sqlite3.Connection, pages: Sequence[Page]) -> list[str]:
    """Index a pack in one transaction; the pack's directories that are complete now and of which nobody was told yet.

    Writers are serialised, so the last one to commit sees its directory complete. If its slot dies between commit and
    notification, whoever runs the pack again finds the same directories: nobody is forgotten.
    """
    with _transaction(shelf):
        for page in pages:
            _put_page(shelf, page)
    touched = sorted({os.path.dirname(page.path) for page in pages})  # noqa: PTH120
    return [directory for directory in touched if is_complete(shelf, directory) and not is_told(shelf, directory)]


def is_complete(shelf: sqlite3.Connection, directory: str) -> bool:
    """Whether every listed file of the directory is in the index."""
    missing = shelf.execute("SELECT 1 FROM files WHERE directory = ? AND lines IS NULL LIMIT 1", (directory,))
    return missing.fetchone() is None


def is_told(shelf: sqlite3.Connection, directory: str) -> bool:
    """Whether the mail about the directory is on its way."""
    return shelf.execute("SELECT 1 FROM told WHERE directory = ?", (directory,)).fetchone() is not None


def note_told(shelf: sqlite3.Connection, directory: str) -> None:
    """Remember that the mail about the directory is on its way, so that a file run again does not send it again."""
    shelf.execute("INSERT OR IGNORE INTO told VALUES (?)", (directory,))


def files_in(shelf: sqlite3.Connection, directory: str) -> list[tuple[str, int, int]]:
    """(path, lines, sections) of each indexed file of a directory."""
    return shelf.execute(
        "SELECT path, lines, cuts FROM files WHERE directory = ? AND lines IS NOT NULL ORDER BY path", (directory,)
    ).fetchall()


def count_indexed(shelf: sqlite3.Connection) -> int:
    """How many files are in; cheap enough to be asked several times a second."""
    counted: tuple[int] = shelf.execute("SELECT count(*) FROM files WHERE lines IS NOT NULL").fetchone()
    return counted[0]


def intact_files(shelf: sqlite3.Connection) -> set[str]:
    """Paths whose sections in the index are as many as were cut: none missing, none twice."""
    rows = shelf.execute(f"SELECT rowid / {SECTIONS_A_FILE}, count(*) FROM sections GROUP BY 1")
    found = dict(rows.fetchall())
    files = shelf.execute("SELECT id, path, cuts FROM files WHERE lines IS NOT NULL")
    return {path for number, path, cuts in files if found.get(number) == cuts}


def search(shelf: sqlite3.Connection, words: str, limit: int) -> list[Hit]:
    """The best sections for ``words`` (FTS5 syntax), a name counting ten times the text."""
    rows = shelf.execute(
        "SELECT files.path, line, name, snippet(sections, 1, '[', ']', '…', 12) FROM sections"
        " JOIN files ON files.id = sections.rowid / ? WHERE sections MATCH ?"
        " ORDER BY bm25(sections, 10.0, 1.0) LIMIT ?",
        (SECTIONS_A_FILE, words, limit),
    )
    return [Hit(path, line, name, " ".join(snippet.split())) for path, line, name, snippet in rows]


def _put_page(shelf: sqlite3.Connection, page: Page) -> None:
    directory = os.path.dirname(page.path)  # noqa: PTH120
    shelf.execute("INSERT OR IGNORE INTO files (path, directory) VALUES (?, ?)", (page.path, directory))
    (number,) = shelf.execute("SELECT id FROM files WHERE path = ?", (page.path,)).fetchone()
    first = number * SECTIONS_A_FILE
    shelf.execute("DELETE FROM sections WHERE rowid BETWEEN ? AND ?", (first, first + SECTIONS_A_FILE - 1))
    shelf.executemany(
        "INSERT INTO sections (rowid, name, body, line) VALUES (?, ?, ?, ?)",
        ((first + position, cut.name, cut.body, cut.line) for position, cut in enumerate(page.sections)),
    )
    shelf.execute("UPDATE files SET lines = ?, cuts = ? WHERE id = ?", (page.lines, len(page.sections), number))


@contextlib.contextmanager
def _transaction(shelf: sqlite3.Connection) -> Iterator[None]:
    shelf.execute("BEGIN IMMEDIATE")  # take the write lock at once: a later upgrade could fail with "locked"
    try:
        yield
    except BaseException:
        shelf.execute("ROLLBACK")
        raise
    shelf.execute("COMMIT")
