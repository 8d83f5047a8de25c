"""Log lines that never hold anybody up: a reader of stderr that stalls costs lines, not work.

A pipe that poll calls writable takes 4,096 bytes without waiting; of what is longer the middle is left out. What could
not be written is counted, and the count is written before the next line that can be.

Applications may log as they like: a handler of ours stands on the root logger only where they have put none of theirs.
"""

import contextlib
import functools
import io
import logging
import os
import select
import sys

LONGEST = 4000  # bytes of a line, the newline not counted
_ESCAPED = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
OURS = ("qslots", "qmaster", "qmanager")  # the loggers above all of ours


class PatientHandler(logging.Handler):
    """Writes to a descriptor if that can be done at once."""

    def __init__(self, descriptor: int = 2) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """One line, or one more that was dropped."""
        try:
            text = self.format(record)
            if self._dropped and self._written(f"({self._dropped} log lines were dropped: nobody read them)"):
                self._dropped = 0
            if self._dropped or not self._written(text):
                self._dropped += 1
        except Exception:
            self.handleError(record)

    def _written(self, text: str) -> bool:
        ready = self._poll.poll(0)
        if not ready or not ready[0][1] & select.POLLOUT:
            return False
        try:
            os.write(self._descriptor, cut(text.encode(errors="replace")) + b"\n")
        except OSError:  # the reader is gone: there is nobody to tell
            return False
        return True


def cut(line: bytes) -> bytes:
    """The beginning of a line that is too long, which says what it is about, and most of its end: where it was."""
    return line if len(line) <= LONGEST else line[: LONGEST // 4] + b"\n...\n" + line[5 - LONGEST * 3 // 4 :]


def print_by_lines() -> None:
    """What the application prints goes out line by line, also into a file or a pipe; so no fork doubles any of it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)


def flush() -> None:
    """What was printed and logged goes out now: for a process that ends without the interpreter's own exit."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or nobody reads, or there is none
            stream.flush()
    logging.shutdown()


def into(path: str) -> None:
    """From now on stdout and stderr are this file, and what is appended to it. OSError as the kernel says it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()  # what was printed before belongs to the file before
    opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o600)
    for standard in (1, 2):
        os.dup2(opened, standard)
    os.close(opened)


def reopen(path: str) -> bool:
    """The file of this name instead of the one that was moved away. What cannot be opened changes nothing."""
    try:
        into(path)
    except OSError as error:
        logging.getLogger("qslots").error(  # noqa: TRY400 - the message says all
            "the log file %s cannot be opened anew: %s; lines go on into the old one", path, error.strerror
        )
        return False
    return True


def to_stderr(who: str, level: str = "info") -> None:
    """What this process logs, from this level on, goes to stderr as ``who``'s."""
    stand_back(who, level)
    stand_in()


def stand_back(who: str, level: str | None = None) -> None:
    """Before code of the application runs that may set up logging: no handler of ours is in its way (``basicConfig``
    does nothing where the root has one), yet what is logged meanwhile goes to stderr too.
    """
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, PatientHandler):
            root.removeHandler(handler)
    logging.lastResort = handler = PatientHandler()
    handler.setFormatter(_Formatter(who))
    if level is not None:
        heed(level)


def heed(level: str) -> None:
    """From now on what is below this level is not logged."""
    for name in (None, *OURS):
        logging.getLogger(name).setLevel(level.upper())


def stand_in() -> None:
    """After it: what it has set up for all loggers stays, and serves ours too; else there is our own handler."""
    for each in _ours(len(logging.root.manager.loggerDict)):
        each.disabled = False  # dictConfig and fileConfig disable all loggers that they are not told of
    if not logging.root.handlers and logging.lastResort is not None:
        logging.root.addHandler(logging.lastResort)


@functools.lru_cache(maxsize=1)
def _ours(_number_of_all: int) -> list[logging.Logger]:
    """Our loggers: kept while their number is the same, so that a slot need not touch all that its mold has made."""
    every = logging.root.manager.loggerDict.items()
    return [each for name, each in every if isinstance(each, logging.Logger) and name.partition(".")[0] in OURS]


class _Formatter(logging.Formatter):
    """Our own lines: who says it, and while which task, unless it is one of ours that names it anyway."""

    def __init__(self, who: str) -> None:
        super().__init__("%(asctime)s %(message)s")
        self._who = who

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        queue, task = getattr(record, "queue", "-"), getattr(record, "task_id", "-")
        is_named = record.name.startswith("qslots.") and task in record.message.split()
        where = "" if task == "-" or is_named else f" [{queue} {task}]"
        said = record.message.translate(_ESCAPED).replace(
            "\n", "\n    "
        )  # what came from a task forges no line of ours
        return f"{record.asctime} {record.levelname} {self._who}{where}: {said}"
