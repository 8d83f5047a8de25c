"""What is shown of a stack: the application's part of it."""

import json
import sys
from types import FrameType

import pytest

from qslots import stacks
from qslots.units import duration
from qslots.work import briefly


def here() -> int:
    return here.__code__.co_firstlineno


def test_error_out_of_a_library_is_placed_where_the_application_called_it() -> None:
    with pytest.raises(ValueError) as caught:
        json.loads("{")
    where = stacks.place(caught.value.__traceback__)
    assert where == f"{__file__}:{here() + 6}"
    assert briefly(caught.value).endswith(f" ({where})")
    with pytest.raises(ValueError) as caught:
        duration("soon", "x")
    assert stacks.place(caught.value.__traceback__).startswith(f"{__file__}:")


def test_error_of_no_application_is_placed_where_it_was_raised() -> None:
    with pytest.raises(ValueError) as caught:
        json.loads("{")
    assert caught.tb.tb_next is not None
    assert "/json/" in stacks.place(caught.tb.tb_next)
    assert stacks.place(None) == ""


def test_frames_of_ours_are_left_out_around_the_handler_only() -> None:
    def library(code: str, file: str) -> FrameType:
        frames: list[FrameType] = []
        exec(compile(code, file, "exec"), {"note": lambda: frames.append(sys._getframe(1))})  # noqa: S102 - for the name of its file
        return frames[0]

    ours, theirs = library("note()", stacks.OURS + "work.py"), library("note()", "/srv/shop/tasks.py")
    stack = [(ours, 1), (theirs, 2), (ours, 3)]
    assert stacks.handlers(stack) == stack[1:]
    assert stacks.handlers(stack[:1]) == stack[:1]
