"""The pytest plugin: one fixture, ``qslots_queues``. It imports nothing of qslots before a test asks for it.

It is a module of its own because any module inside of the package would import the whole of it, and so slow down every
start of pytest wherever qslots is installed.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from qslots.testing import Queues


@pytest.fixture
def qslots_queues() -> Iterator["Queues"]:
    """Empty queues on a private queue server, for one test: see ``qslots.testing.queues``."""
    from qslots import testing

    with contextlib.ExitStack() as stack:
        try:
            queues = stack.enter_context(testing.queues())
        except testing.NoServerProgram as error:
            pytest.skip(str(error))
        yield queues
