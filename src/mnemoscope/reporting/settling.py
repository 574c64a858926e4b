"""A loop that settles within a token, in plain words: what bounds it, and what was found of it."""

import math

from mnemoscope.reporting.numbers import percent, plain
from mnemoscope.runs import SiteRecord

ROUNDING = 1e-4
"""By how much a norm in single precision may lie above the certificate."""


def settling(site: SiteRecord) -> str:
    """One line on the loop of a memory; nothing for a memory without a certificate."""
    certificate, norm = (site.measures.get(f"loop_{name}") for name in ("certificate", "norm"))
    if certificate is None or norm is None:
        return ""
    certified = (
        f"Its loop is certified to settle: a step multiplies distances by {plain(certificate)} at most. The largest "
        f"factor found on these data is {plain(norm)}"
    )
    if norm > certificate + ROUNDING:
        certified = (
            f"Its certificate is refuted: a step of its loop should multiply distances by {plain(certificate)} at "
            f"most, and does by {plain(norm)}"
        )
    exponent = site.measures.get("loop_lyapunov")
    if exponent is None:
        return f"{certified}."
    left = f"so that a step leaves {percent(math.exp(exponent))} of a small deviation"
    grows = "so that small deviations grow: the loop does not settle"
    return f"{certified}; its Lyapunov exponent is {plain(exponent)}, {left if exponent < 0 else grows}."
