"""What every slot is doing, in one shared file, readable by the master even when a slot hangs or is dead.

The file lies on tmpfs, is sized once for all slots that may ever be (sparse, so unused records cost nothing) and is
never resized: a mapping that outgrows its file is SIGBUS. One record a slot: numbers, each stored by one aligned
8-byte write; texts, written before the number that makes them matter; and a done mark for each position of the pack.
A source is a queue's place on one queue server, ``orders@main``.

A mark says that nothing of that task lives in the slot's memory alone any more; or, where several tasks run at once,
that this one has begun. So after a death the master knows exactly what was finished, what ran and what was not begun.
Pids never come from here: a slot could have lied.
"""

import mmap
import os
import time
from collections.abc import Mapping
from enum import IntEnum

from .errors import Error
from .reports import MOST_SLOTS
from .states import SlotState

MARKS = 1000
DONE, RUNS = 1, 2  # marks; 0 is not begun, or the one task that runs
WHOLE_PACK = -1  # in TASK: the handler has all tasks of the pack at once
LOOK_UP = 1_000_000_000  # ns that a slot begins tasks without looking up from them: settling, reading STOP_AFTER
_MAGIC = 0x71736C6F74730006
_RECORD = 2048
_HEADER = 4096


class Field(IntEnum):
    """The numbers of a record, by place. Times are ns of CLOCK_BOOTTIME, which goes on while a machine sleeps."""

    GENERATION = 0
    STATE = 1
    ASKED = 2  # seq of the last request, written before it is sent
    HELD = 3  # seq of the pack being worked on, 0 for none
    SIZE = 4  # tasks in that pack
    TASK = 5  # position of the task that runs, from 1; 0 for none; of several the one that began first
    START = 6
    DEADLINE = 7  # 0 for none
    LOCK_UNTIL = 8  # as far as the slot knows from taking the pack
    EXTENDED_UNTIL = 9  # as far as the master knows from extending the lock
    TTL = 10  # ns a lock lives without extension
    DONE = 11  # tasks that ended well or badly, since birth
    TAKES = 12  # requests for a pack, since birth
    MAX_CRASHES = 13  # how a crash of the running task is to be charged
    BACKOFF_FIRST = 14  # µs
    BACKOFF_LONGEST = 15  # µs
    STOP_AFTER = 16  # written by the master: seq and position of the last task that may begin, see ``stop_after``
    ALERT_AFTER = 17  # ns that a task of this pack may run before the master says so, 0 for never
    USUAL = 18  # ns that a task of this handler takes here as a rule (a pack, if it is run as a whole), 0 if not known
    BEAT = 19  # turns of the slot's loop; it stands while a task runs
    ENDED = 20  # tasks of the handler at hand that ended in earlier packs of this slot
    WAKES = 21  # until when the slot that waits for work waits at most: no beat is to be expected before
    UNTOLD = 22  # time of the pack at hand that its server was not told of: since when it runs; once it is over, -ns


_WORDS = 23
_TEXT_START = _WORDS * 8
_POSITION = 16  # bits of a position beside its seq
_LARGEST = (1 << 63) - 1
_DIGITS = 18  # of a number that fits into 8 bytes for certain
_SOURCE = 1 + 64 + 1 + 64  # length, queue, @, queue server
_TEXTS = {"holder": 128, "asked_source": _SOURCE, "held_source": _SOURCE, "handler": 65, "task": 129, "doubts": 255}
_TEXT_ROOM = 840
_MARKS_START = _TEXT_START + _TEXT_ROOM
assert sum(_TEXTS.values()) <= _TEXT_ROOM
assert _MARKS_START + MARKS <= _RECORD


def boot_ns() -> int:
    """Now, as deadlines and trust are counted: ns since boot, suspended time included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Record:
    """One slot's record."""

    __slots__ = ("_raw", "_task", "index", "marks", "words")

    def __init__(self, room: memoryview, index: int) -> None:
        self.index = index
        self._raw = room
        self.words = room[:_TEXT_START].cast("q")
        self._task = room[_TASK + 1 : _TASK + _TASK_ROOM]
        self.marks = room[_MARKS_START : _MARKS_START + MARKS]

    @classmethod
    def unshared(cls) -> "Record":
        """A record that no master looks at, for who runs packs without one."""
        return cls(memoryview(bytearray(_RECORD)), 0)

    def text(self, name: str) -> str:
        """A text of the record; may be torn while its slot lives, is exact once the slot is dead."""
        start, room = _PLACES[name]
        length = min(self._raw[start], room - 1)
        return bytes(self._raw[start + 1 : start + 1 + length]).decode(errors="replace")

    def put_text(self, name: str, value: bytes) -> None:
        """Writes a text, cut to its room."""
        start, room = _PLACES[name]
        value = value[: room - 1]
        self._raw[start + 1 : start + 1 + len(value)] = value
        self._raw[start] = len(value)

    def put_doubts(self, doubts: Mapping[str, int]) -> None:
        """Notes requests (source -> seq) that a server went away from: who knows whether it has served them. What
        does not fit is left out; a pack taken there expires.
        """
        text = b""
        for source, seq in doubts.items():
            entry = f"{seq} {source} ".encode()
            if len(text) + len(entry) < _PLACES["doubts"][1]:
                text += entry
        self.put_text("doubts", text)

    def doubts(self) -> dict[str, int]:
        """What ``put_doubts`` has noted, as far as it can be read."""
        words = self.text("doubts").split()
        pairs = zip(words[::2], words[1::2], strict=False)
        return {source: int(seq) for seq, source in pairs if seq.isdecimal() and len(seq) <= _DIGITS}

    def clear(self, *, holder: str = "", generation: int = 0) -> None:
        """Makes the record ready for a new tenant, or for none."""
        self._raw[:] = bytes(len(self._raw))
        self.put_text("holder", holder.encode())
        self.words[Field.GENERATION] = generation
        self.words[Field.STATE] = SlotState.STARTING if holder else SlotState.ABSENT

    def begin(self, position: int, start: int, deadline: int, task: bytes) -> None:
        """A task begins. The deadline stands at 0 while the rest changes, so that no old one meets a new task; and the
        start is written before the position, so that no task looks older than it is.
        """
        words, size = self.words, len(task)
        words[7] = 0
        if size < _TASK_ROOM:
            self._task[:size] = task
            self._raw[_TASK] = size
        else:
            self.put_text("task", task)
        words[6] = start
        words[5] = position
        words[7] = deadline

    def over(self) -> None:
        """The task is over; while its end is being told, which may take long, no deadline counts."""
        self.words[7] = 0

    def end(self) -> None:
        """No task runs."""
        self.words[7] = 0
        self.words[5] = 0

    def hold(self, seq: int, source: bytes, handler: bytes, size: int) -> None:
        """A pack is here: its marks are wiped before it counts as held."""
        self.marks[:size] = bytes(size)
        self.put_text("held_source", source)
        self.put_text("handler", handler)
        self.words[Field.SIZE] = size
        self.words[Field.HELD] = seq

    def drop(self) -> None:
        """The pack is settled."""
        self.words[Field.HELD] = 0
        self.words[Field.UNTOLD] = 0

    def untold(self, now: int) -> int:
        """ns that handlers ran in the pack at hand and that its server was not told of; anything, if the slot lied."""
        since = self.words[Field.UNTOLD]
        return now - since if since > 0 else -since

    def stop_after(self, seq: int, position: int) -> None:
        """The master's word: of this pack nothing begins after this position. One store, so never half a word."""
        self.words[Field.STOP_AFTER] = (seq << _POSITION | position) & _LARGEST  # of a seq that is none: no pack's

    def stops_after(self, position: int) -> bool:
        """Whether the pack at hand is to end after this position."""
        return self.words[Field.STOP_AFTER] == self.words[Field.HELD] << _POSITION | position

    def trusted_until(self) -> int:
        """Until when nobody else can have this slot's pack (ns since boot)."""
        return max(self.words[Field.LOCK_UNTIL], self.words[Field.EXTENDED_UNTIL])


_PLACES: dict[str, tuple[int, int]] = {}
_next = _TEXT_START
for _name, _room in _TEXTS.items():
    _PLACES[_name] = (_next, _room)
    _next += _room

_TASK, _TASK_ROOM = _PLACES["task"]


class Scoreboard:
    """The mapped file. Its descriptor is inherited by mold and slots."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        size = _HEADER + MOST_SLOTS * _RECORD
        if os.fstat(descriptor).st_size != size:
            raise Error("the scoreboard file has another size than this version writes; remove it")
        self._room = memoryview(mmap.mmap(descriptor, size))
        if self._room[:8].cast("Q")[0] != _MAGIC:
            raise Error("the scoreboard file is of another version; remove it")
        self._records: dict[int, Record] = {}

    @classmethod
    def create(cls, path: str) -> "Scoreboard":
        """A new file, for this user alone; refuses to follow or reuse anything that is there."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, _HEADER + MOST_SLOTS * _RECORD)
            os.posix_fallocate(descriptor, 0, _HEADER)
            os.pwrite(descriptor, _MAGIC.to_bytes(8, "little"), 0)
        except OSError as error:
            os.close(descriptor)
            os.unlink(path)  # noqa: PTH108 - paths are texts here
            raise Error(f"scoreboard {path} cannot be made: {error.strerror}; is the file system full?") from None
        return cls(descriptor)

    def reserve(self, index: int) -> None:
        """Makes sure that a record has room on disk: a mapped page that has none is SIGBUS. OSError if it has not."""
        os.posix_fallocate(self.descriptor, _HEADER + index * _RECORD, _RECORD)

    @classmethod
    def open(cls, path: str) -> "Scoreboard":
        """The file that another master has left."""
        return cls(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC))

    def record(self, index: int) -> Record:
        """The record of slot ``index``, 0 to 4,095."""
        if index not in self._records:  # a master looks at all of them several times a second
            if not 0 <= index < MOST_SLOTS:
                raise IndexError(index)
            start = _HEADER + index * _RECORD
            self._records[index] = Record(self._room[start : start + _RECORD], index)
        return self._records[index]

    def tenants(self) -> list[Record]:
        """The records that name a holder: slots that live, or died with a master that could not settle for them."""
        starts = range(_HEADER, _HEADER + MOST_SLOTS * _RECORD, _RECORD)
        at = _PLACES["holder"][0]
        # Read, not looked up in the mapping: that would give every hole of the file a page.
        found = [index for index, start in enumerate(starts) if os.pread(self.descriptor, 1, start + at) != b"\0"]
        return [self.record(index) for index in found]
