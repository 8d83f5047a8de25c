"""What the application forks must not become a second slot: the child has its parent's locks, connections and record.

A child that runs another program, or ends by ``os._exit``, never comes back here. One that returns from a handler or a
hook, or raises out of it (``sys.exit``), ends where our own code would go on.
"""

import os

_forked = False


def watch() -> None:
    """For a slot, at its birth: from now on children forked of this process know that they are none of its kind."""
    os.register_at_fork(after_in_child=_in_child)


def _in_child() -> None:
    global _forked
    _forked = True


def end_if_forked() -> None:
    """To be called wherever code of the application has ended."""
    if _forked:
        os._exit(0)
