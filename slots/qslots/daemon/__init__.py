"""What the daemons have in common: control socket, notices to the service manager, folders, faults of their own.

Nothing here is loaded by ``import qslots``: an application never pays for it.
"""
