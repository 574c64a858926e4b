"""Remedies of external memories: addressing by content, and numerical stability."""

from mnemoscope.training.remedies import DncMasking, NtmStability
from tests.unit.training.remedies.models import MEMORY, ROUTE, Case

CASES = {
    "dnc_masking": Case(
        stack=DncMasking(sites=("blocks.*.mixer.memory.inner.query",)),
        hybrid=DncMasking(sites=(f"{ROUTE}.k_proj",), floor=0.1),
        layout="bank(n_slots=4) | attention(window=16)",
    ),
    "ntm_stability": Case(
        stack=NtmStability(),
        hybrid=NtmStability(sites=(f"{MEMORY}.in_proj_ba",), control_clip=0.01, keys=(f"{ROUTE}.k_proj",)),
        layout="ntm(n_slots=4, word=3, hidden=8, memory='learned', forget_bias=0.0)",
    ),
}
