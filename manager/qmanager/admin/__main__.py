"""``python -m qmanager.admin`` is the ``qslots`` command."""

from .cli import main

if __name__ == "__main__":
    main(prog_name="qslots")
