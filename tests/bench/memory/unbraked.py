"""qmaster as it is, but that it does not grow by degrees: at once to the slots asked for, also on a busy machine.

Only for memory and births: what is measured there depends neither on how busy the processors are nor on how the fleet
came to its size. Bounds by memory stay.
"""

import math

from qmaster import bounds, capacity, cli

MANY = 4096  # slots

if __name__ == "__main__":
    for brake in ("SATURATED", "LOAD", "CPU_PRESSURE"):
        setattr(bounds, brake, math.inf)
    setattr(capacity, "_ramp", lambda *_: MANY)  # noqa: B010 - mypy would mind
    cli.main()
