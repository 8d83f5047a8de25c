"""Log lines never hold anybody up."""

import logging
import os

from qslots.logs import LONGEST, PatientHandler


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("t", logging.INFO, "", 0, text, (), None)


def test_a_reader_that_stalls_costs_lines_and_is_told_how_many() -> None:
    reader, writer = os.pipe()
    handler = PatientHandler(writer)
    for _ in range(200):
        handler.emit(record("x" * 1000))  # far more than a pipe holds
    stalled = os.read(reader, 1 << 20)
    handler.emit(record("again"))
    after = os.read(reader, 1 << 20).decode()
    dropped = 200 - stalled.count(b"\n")
    assert dropped > 0
    assert after == f"({dropped} log lines were dropped: nobody read them)\nagain\n"
    os.close(reader)
    os.close(writer)


def test_a_line_is_cut_and_a_reader_that_is_gone_is_no_fault() -> None:
    reader, writer = os.pipe()
    handler = PatientHandler(writer)
    handler.emit(record("y" * 10 * LONGEST))
    assert len(os.read(reader, 1 << 20)) == LONGEST + 1
    handler.emit(record("about this" + "y" * 10 * LONGEST + "the end"))
    line = os.read(reader, 1 << 20)
    assert len(line) == LONGEST + 1
    assert line.startswith(b"about this") and line.endswith(b"the end\n")
    os.close(reader)
    handler.emit(record("to nobody"))
    os.close(writer)
