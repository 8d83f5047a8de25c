"""The application as qslots serves it if it has worked in the mold: what its libraries then made is shared."""

import application
import served_by_qslots

from qslots import hooks

work = served_by_qslots.work


@hooks.warm_up
def warm_up() -> None:
    """Some tasks, without waiting and without being counted."""
    for n in range(20):
        application.compute(n)
