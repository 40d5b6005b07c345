"""Sizes, durations and rates as people write and read them."""

import re

# Ollama's own client prints decimal units (format/bytes.go), so `olladist status` and `ollama list` agree.
_SIZES = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3))


def size(count: float) -> str:
    """Bytes in decimal units, three figures at most: "397 MB", "1.3 GB", "12 B"."""
    for unit, scale in _SIZES:
        if count >= scale:
            value = count / scale
            return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
    return f"{count:.0f} B"


def rate(bytes_per_second: float) -> str:
    return f"{size(bytes_per_second)}/s"


def duration(seconds: float) -> str:
    """Two units at most: "850 ms", "4.2 s", "3 min 20 s", "2 h 5 min", "6 d 3 h"."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for (big, scale), (small, small_scale) in (
        (("d", 86400), ("h", 3600)),
        (("h", 3600), ("min", 60)),
        (("min", 60), ("s", 1)),
    ):
        if whole >= scale:
            rest = whole % scale // small_scale
            return f"{whole // scale} {big}" + (f" {rest} {small}" if rest else "")
    raise AssertionError(seconds)


_GO_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_GO_SCALE = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_go_duration(text: str) -> float:
    """Seconds of a Go duration ("5m", "1h30m") or of plain seconds ("300", "-1"), as OLLAMA_KEEP_ALIVE takes them.

    Raises ValueError for anything else.
    """
    sign, body = (-1, text[1:]) if text.startswith("-") else (1, text)
    try:
        return sign * float(body)
    except ValueError:
        pass
    parts = _GO_DURATION.findall(body)
    if not parts or "".join(number + unit for number, unit in parts) != body:
        raise ValueError(f"{text!r} is not a duration such as 5m, 1h30m or 300")
    return sign * sum(float(number) * _GO_SCALE[unit] for number, unit in parts)
