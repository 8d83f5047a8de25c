"""How a daemon that has failed ends: by an error of its own, with an exit code of its own. Pure.

Each of them counts its faults in its own way; whoever starts it anew need not know which.
"""

from ..errors import Error

EX_SOFTWARE = 70  # of sysexits.h


class Broken(Error):
    """This program has failed; its exit code is ``EX_SOFTWARE``."""
