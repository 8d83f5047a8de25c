"""Bytes, seconds and numbers for people. Pure."""

NOTHING = "·"  # what is not known
ROUNDING = 0.05  # slots


def size(count: float | None) -> str:
    """Bytes for people, in powers of 1024 as in the settings: 640K, 1.5G."""
    if count is None:
        return NOTHING
    for unit in "BKMGTP":
        if count < 1000 or unit == "P":
            break
        count /= 1024
    return f"{count:.1f}{unit}" if count < 10 and unit not in "BK" else f"{count:.0f}{unit}"


def number(count: float | None) -> str:
    """Three digits at least, and never an exponent for what is large: 0.0123, 4.5, 999, 1,234."""
    if count is None:
        return NOTHING
    return f"{count:,.0f}" if isinstance(count, int) or abs(count) >= 100 else f"{count:.3g}"


def seconds(span: float | None) -> str:
    """Seconds for people, two units at most: 340µs, 12ms, 4.2s, 3m 20s, 2h 5m, 3d 4h."""
    if span is None:
        return NOTHING
    if span < 1:
        return f"{span * 1e6:.0f}µs" if 0 < span < 1e-3 else f"{span * 1e3:.0f}ms"
    if span < 10:
        return f"{span:.1f}s"
    for unit, name, part, part_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if span >= unit:
            rest = int(span % unit // part)
            return f"{int(span // unit)}{name}" + (f" {rest}{part_name}" if rest else "")
    return f"{span:.0f}s"


def is_short(wanted: float | None, granted: float | None) -> bool:
    """Whether there are fewer slots than are wanted, by more than rounding."""
    return wanted is not None and granted is not None and granted + ROUNDING < wanted
