"""Entry of ``make demo``: the demo application under ``qslots up``. See README.md beside this file."""

import sys

from show.runner import main

if __name__ == "__main__":
    sys.exit(main())
