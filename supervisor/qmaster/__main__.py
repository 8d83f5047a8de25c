"""``python -m qmaster``: the same as the command ``qmaster``."""

from .cli import main

main()
