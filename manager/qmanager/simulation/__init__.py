"""``qmanager simulate``: a load played in simulated time through the manager's planner, and through others beside it.

Nothing here reads a clock or a queue server: the same load, fleet and seed give the same figures, byte by byte.
"""
