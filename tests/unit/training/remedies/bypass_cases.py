"""Remedies that make the way round a memory carry less."""

from mnemoscope.training.remedies import BottleneckNoise, BottleneckRank, BottleneckVariational, ShortcutWeakening
from tests.unit.training.remedies.models import ROUTE, Case

CASES = {
    "bottleneck_noise": Case(stack=BottleneckNoise(), hybrid=BottleneckNoise(sites=(ROUTE,))),
    "bottleneck_rank": Case(stack=BottleneckRank(), hybrid=BottleneckRank(sites=(f"{ROUTE}.o_proj",), every=2)),
    "bottleneck_variational": Case(
        stack=BottleneckVariational(), hybrid=BottleneckVariational(sites=(ROUTE,), width=16, strength=0.1)
    ),
    "shortcut_weakening": Case(stack=ShortcutWeakening(), hybrid=ShortcutWeakening(sites=(f"{ROUTE}.o_proj",))),
}
