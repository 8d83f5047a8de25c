"""A load from a CSV file: one row says how a queue is loaded from a time on. What does not fit is refused on one line.

An empty cell means: as in the queue's row before. Settings of queues stand above what the file says of them.
"""

import csv
import math
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from qslots import given, units
from qslots.errors import Error, UsageError
from qslots.handlers import overridden
from qslots.keys import check_name
from qslots.reports import HandlerDeclared, QueueDeclared
from qslots.settings import QueueSettings

from .load import Load, Phase, QueueLoad

MOST_ROWS = 1_000_000  # half a gigabyte
ALONE = 3600.0  # s that a file with one time only is played
Row = dict[str, Any]


class BadCell(Error):
    """A cell that does not fit: why, and what to write."""


def _seconds(text: str) -> float:
    try:
        return units.duration(float(text) if _is_number(text) else text)
    except UsageError:
        raise BadCell("write seconds, or a text such as '250ms', '90s', '5m'") from None


def _per_second(text: str) -> float:
    try:
        return 0.0 if _is_number(text) and float(text) == 0 else units.rate(text)
    except UsageError:
        raise BadCell("write tasks a second, 0 or more, or a text such as '600/m'") from None


def _bytes(text: str) -> int:
    try:
        return units.size(text)
    except UsageError:
        raise BadCell("write a number of bytes, or a text such as '64M'") from None


def _name(text: str) -> str:
    try:
        return check_name(text, "")
    except Error:
        raise BadCell("write 1 to 64 letters, digits and _ . - , not beginning with . or -") from None


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isdecimal() or not least <= float(text) <= most:  # int() refuses thousands of digits
            raise BadCell(f"write a whole number, {least} to {most:,}")
        return int(float(text))

    return read


def _number(least: float, what: str, most: float = sys.float_info.max) -> Callable[[str], float]:
    def read(text: str) -> float:
        if not _is_number(text) or not least <= float(text) <= most:
            raise BadCell(f"write a number, {what}")
        return float(text)

    return read


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


NEEDED: Mapping[str, Callable[[str], Any]] = {
    "time": _seconds,
    "queue": _name,
    "arrivals": _per_second,
    "service_time": _seconds,
}
CHANGING: Mapping[str, Callable[[str], Any]] = {  # from row to row, like the needed ones
    "slowdown": _number(1.0, "1 or more"),
    "parallel": _number(1.0, "1 or more"),
}
FIXED: Mapping[str, Callable[[str], Any]] = {  # of a queue, the same in all its rows
    "cv": _number(0.0, "0 to 100", 100.0),
    "pack_cost": _seconds,
    "batch": _whole(1, 100_000),
    "priority": _whole(1, 100),
    "min_slots": _whole(0, 1_000_000),
    "max_slots": _whole(0, 1_000_000),
    "target_delay": _seconds,
    "memory": _bytes,
}
COLUMNS = {**NEEDED, **CHANGING, **FIXED}


def load_of(path: pathlib.Path, settings: Mapping[str, QueueSettings], duration: float | None) -> Load:
    """The load of a file. Error on one line: file, line, column, value, remedy.

    Without a duration it lasts until the last time and then as long as between the last two times.
    """
    rows: dict[str, list[Row]] = {}
    for count, (line, row) in enumerate(_rows(path)):
        if count == MOST_ROWS:
            raise Error(f"{path} has more than {MOST_ROWS:,} rows: write one where the load changes, not one a task")
        _joined(rows, row, f"{path} line {line}")
    if not rows:
        raise Error(f"{path} has no rows: write one with {', '.join(NEEDED)}")
    times = sorted({row["time"] for each in rows.values() for row in each})
    ends = duration or (2 * times[-1] - times[-2] if len(times) > 1 else ALONE)
    return Load(path.stem, tuple(_queue(name, each, settings.get(name), path) for name, each in rows.items()), ends)


def _rows(path: pathlib.Path) -> Iterator[tuple[int, Row]]:
    """The rows, each with the number of its line; empty cells are left out."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            names = [re.sub(r"[ -]", "_", name.strip().lower()) for name in next(reader, [])]
            _check_names(names, path)
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield reader.line_num, _read(names, cells, f"{path} line {reader.line_num}")
    except OSError as error:
        raise Error(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Error(f"{path} is not UTF-8: save it as that") from None
    except csv.Error as error:
        raise Error(f"{path} line {reader.line_num} is not CSV: {error}") from None


def _check_names(names: Sequence[str], path: pathlib.Path) -> None:
    for name in names:
        if name not in COLUMNS:
            raise Error(f"{path} line 1, column {name!r}: no such column; {given.meant(name, COLUMNS)}")
        if names.count(name) > 1:
            raise Error(f"{path} line 1, column {name}: it is there twice")
    if missing := [name for name in NEEDED if name not in names]:
        raise Error(f"{path} line 1: the column {missing[0]} is missing; the first line names the columns")


def _read(names: Sequence[str], cells: Sequence[str], where: str) -> Row:
    if len(cells) > len(names):
        raise Error(f"{where}: {len(cells)} cells for {len(names)} columns; quote a cell that has a comma")
    row: Row = {}
    for name, cell in zip(names, (cell.strip() for cell in cells), strict=False):
        if cell:
            try:
                row[name] = COLUMNS[name](cell)
            except BadCell as error:
                raise Error(f"{where}, column {name}: {cell!r} does not fit: {error}") from None
    return row


def _joined(rows: dict[str, list[Row]], row: Row, where: str) -> None:
    """Appends a row to those of its queue, with what it leaves open."""
    for name in ("time", "queue"):
        if name not in row:
            raise Error(f"{where}, column {name}: '' does not fit: every row needs one")
    of_queue = rows.setdefault(row["queue"], [])
    before = of_queue[-1] if of_queue else {}
    if of_queue and row["time"] <= before["time"]:
        raise Error(f"{where}, column time: {row['time']:g} does not fit: later than the row before of its queue")
    for name in FIXED:
        if of_queue and name in row and row[name] != before.get(name):
            raise Error(f"{where}, column {name}: {row[name]!r} does not fit: write it in the first row of its queue")
    whole = {**before, **row}
    for name in NEEDED:
        if name not in whole:
            raise Error(f"{where}, column {name}: '' does not fit: the first row of a queue needs one")
    if whole["service_time"] == 0 and not whole.get("pack_cost"):
        raise Error(f"{where}, column service_time: 0 does not fit: a task takes some time")
    of_queue.append(whole)


def _queue(name: str, rows: Sequence[Row], settings: QueueSettings | None, path: pathlib.Path) -> QueueLoad:
    fixed, names = rows[0], set(QueueDeclared.__struct_fields__)
    try:
        given.slots(fixed.get("min_slots"), fixed.get("max_slots"))
    except UsageError as error:
        raise Error(f"{path}: queue {name}: {error}") from None
    declared = QueueDeclared(
        name=name,
        handlers=(HandlerDeclared(name, fixed.get("batch", 1)),),
        **{key: value for key, value in fixed.items() if key in names and key in FIXED},
    )
    phases = [_phase(row) for row in rows]
    if phases[0].at > 0:  # what is not there yet has no load
        phases.insert(0, Phase(0.0, 0.0, phases[0].service_time))
    whole = msgspec.structs.replace(overridden(declared, settings), rate=None)  # rates are not played
    return QueueLoad(whole, tuple(phases), fixed.get("cv", 1.0), fixed.get("pack_cost", 0.0))


def _phase(row: Row) -> Phase:
    slowdown, parallel = row.get("slowdown", 1.0), row.get("parallel", math.inf)
    return Phase(row["time"], row["arrivals"], row["service_time"], slowdown, parallel)
