"""Whose code a frame of a stack is: the application's, a library's, or ours. What is shown to people is chosen by it.

It decides nothing else, and changes no error.
"""

import itertools
import sysconfig
import traceback
from collections.abc import Iterable
from types import FrameType, TracebackType

OURS = __file__.removesuffix("stacks.py")
_LIBRARY = sysconfig.get_path("stdlib") + "/"
_PACKAGES = ("/site-packages/", "/dist-packages/")
Frames = list[tuple[FrameType, int]]  # with their lines, the outermost first


def is_ours(frame: FrameType) -> bool:
    """Whether it is code of qslots."""
    return frame.f_code.co_filename.startswith(OURS)


def is_of_application(frame: FrameType) -> bool:
    """Whether it is neither ours, nor Python's, nor an installed package's."""
    file = frame.f_code.co_filename
    return not (file.startswith((OURS, _LIBRARY, "<frozen")) or any(part in file for part in _PACKAGES))


def handlers(frames: Iterable[tuple[FrameType, int]]) -> Frames:
    """Without the frames of ours around the handler; all of them where there is nothing else."""
    every = list(frames)
    return list(itertools.dropwhile(lambda each: is_ours(each[0]), every)) or every


def shown(frames: Iterable[tuple[FrameType, int]]) -> str:
    """The frames of a handler as Python shows them."""
    return "".join(traceback.StackSummary.extract(iter(handlers(frames))).format())


def below_ours(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without its first frame, which is the slot's, and those of ours after it; else the whole of it."""
    inner = None if trace is None else trace.tb_next
    while inner is not None and is_ours(inner.tb_frame):
        inner = inner.tb_next
    return inner or trace


def place(trace: TracebackType | None) -> str:
    """Where in the application an error came from: its innermost frame there, else the innermost of all, file:line."""
    frames = list(traceback.walk_tb(trace))
    found = [each for each in frames if is_of_application(each[0])] or frames
    return f"{found[-1][0].f_code.co_filename}:{found[-1][1]}" if found else ""
