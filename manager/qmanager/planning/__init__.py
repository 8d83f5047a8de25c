"""From what was counted and reported to the next slot map: all of it pure.

``planner`` puts it together: demand (what each queue is worth), grant (who gets how many slots), placement (which).
"""
