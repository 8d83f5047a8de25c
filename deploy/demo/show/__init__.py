"""What makes a show of the application: starts it under ``qslots up``, feeds, watches and disturbs it, and judges."""
