"""How many examples the property tests try: the same few for every change, many new ones in `make explore`.

A change is judged by what it holds, so its examples do not depend on chance; chance looks for what nobody thought of,
and its findings become tests of their own.
"""

import os
from typing import Any

from hypothesis import settings

USUAL = 15
_TIMES = int(os.environ.get("QSLOTS_TEST_EXAMPLES", "1"))  # as many examples as usual


def examples(usual: int, **more: Any) -> settings:
    return settings(max_examples=usual * _TIMES, derandomize=_TIMES == 1, deadline=None, database=None, **more)
