"""`mnemoscope plan` as a user types it."""

import pytest

from mnemoscope.cli.plan import Plan


def test_a_plan_prints_counts_and_estimates(capsys: pytest.CaptureFixture[str]):
    plan = Plan(subject="text-hybrid", layout="gated_delta", width=16, context=32, device=("h100",), count=8)
    assert plan.run() == 0
    printed = capsys.readouterr().out
    assert "1 blocks of width 16" in printed or "1 block" in printed
    assert "8 x NVIDIA H100 SXM" in printed
    assert "estimate" in printed
    assert "after the context, constant" in printed
    assert "all-reduced in a ring over 450 GB/s links" in printed


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (Plan(), "name a recipe"),
        (Plan(subject="text-hybrd"), "did you mean 'text-hybrid'"),
        (Plan(subject="text-hybrid", depth=0), "--depth must be at least 1, got 0"),
        (Plan(subject="text-hybrid", device=("a100",)), "got a100"),
        (Plan(subject="text-hybrid", count=0), "--count must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_a_line(plan: Plan, said: str):
    with pytest.raises(ValueError, match=said):
        plan.run()
