"""A dry run says what the examination then does; counts are compared, since seconds vary."""

from collections import Counter

import pytest
import torch

from mnemoscope.contracts import Batch
from mnemoscope.examination import Budget, examine
from mnemoscope.examination.planning import plan
from mnemoscope.examination.protocol.programme import Programme
from mnemoscope.models import StackConfig, build

BUDGET = Budget(n_calibration=8, n_test=16, fit_steps=3, joint_fit_steps=2, n_resamples=200, looks=1)


class Stopped(Exception):
    """What an examination would go on to measure."""


def batches(n: int = 6) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(16, (n, 4, 12), generator=generator)
    return [Batch(inputs=rows, targets=rows.flip(1)) for rows in inputs]


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param("attention, gated_delta, gated_delta", marks=pytest.mark.long),
        pytest.param("attention(window=4), bank(n_slots=3)", marks=pytest.mark.long),
        "gated_delta",
    ],
)
def test_the_conditions_are_those_of_the_examination(layout: str, monkeypatch: pytest.MonkeyPatch):
    model = build(StackConfig.of(layout, vocab_size=16, d_model=8), seed=0)
    planned, real = plan(model, batches(), budget=BUDGET), Programme.conditions

    def stop(self: Programme) -> None:
        raise Stopped(real(self), self.case.window)

    monkeypatch.setattr(Programme, "conditions", stop)
    with pytest.raises(Stopped) as stopped:
        examine(model, batches(), budget=BUDGET)
    conditions, window = stopped.value.args
    rows = {row.name: row for row in planned.rows}
    counted = Counter(key[1] for key in conditions if key[0] != "off" and key[-1] != "position_constant")
    assert counted.keys() == rows.keys() - {"switched off"}
    for name, n in counted.items():
        # Constants by position are fitted only where they turn out to be needed.
        assert n <= sum(rows[name].conditions.values()) <= n + 1
    assert sum(rows["switched off"].conditions.values()) == sum(key[0] == "off" for key in conditions)
    assert len(conditions) <= planned.n_conditions <= len(conditions) + len(rows)
    assert planned.local_window == window
    assert (planned.n_calibration, planned.n_test) == (2, 4)
    assert planned.replay == "from a record, checked to the bit"


def test_bytes_and_minutes_are_counted_and_the_model_is_left_alone():
    model = build(StackConfig.of("attention, gated_delta", vocab_size=16, d_model=8), seed=0).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    planned = plan(model, batches(), budget=BUDGET)
    longer = plan(model, batches(12), budget=Budget(n_calibration=8, n_test=40, fit_steps=3, joint_fit_steps=2))
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert planned.model_bytes == sum(p.numel() * 4 for p in model.parameters())
    assert 0 < planned.pass_bytes < planned.n_bytes
    assert planned.minutes > 0
    assert longer.n_test == 10
    assert longer.n_conditions == planned.n_conditions
