"""The ``qslots`` command."""
