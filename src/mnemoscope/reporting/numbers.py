"""How numbers and names are written on the page: always the same digits, never a bare NaN, no hidden characters."""

import math
import unicodedata

from mnemoscope.runs import Estimate

ABSENT = "–"
"""Not measured, or not a number."""


def nats(value: float | None) -> str:
    """Two decimals from one nat upwards, three below: about what a paired interval over 1,000 sequences resolves."""
    if value is None or math.isnan(value):
        return ABSENT
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return _signed_zero(f"{value:.{2 if abs(value) >= 0.9995 else 3}f}")


def increase(value: float) -> str:
    """A change of the loss, with its sign."""
    text = nats(value)
    return f"+{text}" if value > 0 and float(text) > 0 else text


def interval(estimate: Estimate | None) -> str:
    """The interval alone, with the digits of `nats`; empty when either end is not a number."""
    if estimate is None or math.isnan(estimate.low) or math.isnan(estimate.high):
        return ""
    return f"[{nats(estimate.low)}, {nats(estimate.high)}]"


def nats_with_interval(estimate: Estimate | None) -> str:
    """Value and interval in one string, as `3.10 [3.00, 3.20]`."""
    return f"{nats(estimate.value if estimate else None)} {interval(estimate)}".rstrip()


def percent(fraction: float | None) -> str:
    """A fraction as a whole percentage; one decimal below 10 %."""
    if fraction is None or not math.isfinite(fraction):
        return ABSENT
    value = 100 * fraction
    return _signed_zero(f"{value:.{0 if abs(value) >= 9.95 else 1}f}") + " %"


def percent_interval(estimate: Estimate | None) -> str:
    """The interval of a fraction, in per cent."""
    if estimate is None or not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return ""
    return f"[{percent(estimate.low)}, {percent(estimate.high)}]"


def confidence(level: float) -> str:
    """The level of an interval in per cent, never rounded up to certainty."""
    rest = 100 * (1 - level)
    decimals = 2 if rest <= 0 else max(2, 1 - math.floor(math.log10(rest)))
    return f"{100 * level:.{decimals}f}".rstrip("0").rstrip(".") + " %"


def plain(value: float | None) -> str:
    """A number without a unit: counts as they are, the rest with four significant digits."""
    if value is None or math.isnan(value):
        return ABSENT
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if float(value).is_integer() and abs(value) < 1e7:
        return f"{value:.0f}"
    return f"{value:.4g}"


def printable(text: str, kept: str = "") -> str:
    """The text with control and direction characters made visible, so that a name cannot disturb what follows it.

    Args:
        text: from a record, hence possibly hostile.
        kept: control characters that may stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join("\N{REPLACEMENT CHARACTER}" if _is_hidden(c) and c not in kept else c for c in text)


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or unicodedata.bidirectional(character) in _DIRECTIONS


_DIRECTIONS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def _signed_zero(text: str) -> str:
    return text.lstrip("-") if float(text) == 0 else text
