"""qmaster: one server's supervisor of copy-on-write slots. It never imports the application and never waits on I/O."""
