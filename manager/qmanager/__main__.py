"""``python -m qmanager``: the same as the command ``qmanager``."""

from .cli import main

main()
