"""Entry of ``make demo``: the demo application under ``qslots up``. See README.md beside this file."""

import sys

from qshelf.runner import main

if __name__ == "__main__":
    sys.exit(main())
