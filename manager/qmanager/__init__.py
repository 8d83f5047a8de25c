"""qmanager: decides which slot of which server serves which queue; and the ``qslots`` command that shows it."""
