"""States taken out of models that announce none, and exchanged in them: only where the self-test allows it."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import Batch
from mnemoscope.examination import Budget, examine
from mnemoscope.examination.planning import plan
from mnemoscope.examination.protocol.patching import Pair, patch, patch_states, with_other_history
from mnemoscope.examination.protocol.streaming import _memory, pieces_of, stream_states
from mnemoscope.examination.subject.adapters import mixer_of
from mnemoscope.examination.subject.continuation import self_test
from mnemoscope.examination.subject.sites import find_sites
from mnemoscope.examination.subject.states import states_in
from mnemoscope.examination.subject.streams import stream_of
from mnemoscope.models import StackConfig
from mnemoscope.models import build as build_stack
from mnemoscope.runs import Examination
from tests.unit.examination.tiny_huggingface import build, long, sites_of, tokens

pytestmark = pytest.mark.filterwarnings("ignore")

VOCABULARY, LENGTH = 4, 8
BUDGET = Budget(
    n_calibration=16,
    n_test=16,
    fit_steps=1,
    joint_fit_steps=1,
    windows=(1,),
    contribution=False,
    n_resamples=200,
    untrained_copy=False,
)


class MiniMaxLightningAttention(nn.Module):
    """Sums of outer products x x^T, under a name whose state is known to be a map; read along all keys.

    `told`, a second tensor, keeps its history from being cut. `leak` is what it forgets to carry on.
    """

    def __init__(self, leak: float) -> None:
        super().__init__()
        self.leak, self.norm = leak, nn.Dropout(0.0)

    def forward(self, x: Tensor, told: Tensor | None, state: Tensor | None) -> tuple[Tensor, Tensor]:
        before = 0.0 if state is None else (1 - self.leak) * state[:, None]
        sums = (x[..., :, None] * x[..., None, :]).cumsum(1).unsqueeze(2) + before
        return self.norm(sums.sum((2, 3))), sums[:, -1]


class Counter(nn.Module):
    """How often each token was seen, as logits; the state is diagonal and holds these numbers."""

    def __init__(self, leak: float = 0.0, told: bool = True) -> None:
        super().__init__()
        self.memory, self.told = MiniMaxLightningAttention(leak), told
        self.skip = nn.Linear(VOCABULARY, VOCABULARY, bias=False)
        nn.init.eye_(self.skip.weight)

    def forward(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = F.one_hot(tokens, VOCABULARY).float()
        read, after = self.memory(x, torch.zeros_like(x) if self.told else None, state)
        return read + 0.1 * self.skip(x), after


def batches(n: int = 6) -> list[Batch]:
    """One token again and again, then any: the first is the answer throughout."""
    drawn = torch.randint(VOCABULARY, (n, 8, LENGTH), generator=torch.Generator().manual_seed(0))
    drawn[:, :, : LENGTH // 2] = drawn[:, :, :1]
    return [Batch(inputs=x, targets=x[:, :1].expand_as(x)) for x in drawn]


def looked_at(model: nn.Module) -> Examination:
    return examine(model, batches(), sites=["memory"], routes=[], budget=BUDGET)


def test_the_state_of_a_module_is_measured_as_by_hand():
    x = torch.tensor([[0] * 8, [0, 0, 0, 1, 0, 0, 0, 1]])
    model = Counter()
    sites = find_sites(model, lambda: None, ["memory"], [])
    found = stream_states(model, x_batch(x), sites)
    values, is_map = found.states["memory"]
    assert is_map
    counts = torch.tensor([[[2, 0, 0, 0], [8, 0, 0, 0]], [[2, 0, 0, 0], [6, 2, 0, 0]]]).double()
    assert torch.equal(values, counts.diag_embed().unsqueeze(2))
    (site,) = examine(
        model, [x_batch(x.repeat(4, 1)) for _ in range(6)], sites=["memory"], routes=[], budget=BUDGET
    ).sites
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert site.measures["state_share"] == pytest.approx(math.exp(entropy) / 4, rel=1e-6)
    assert site.measures["state_growth"] == pytest.approx((8 / 2 + math.hypot(6, 2) / 2) / 2, rel=1e-6)
    assert "state" not in site.unmeasured


def x_batch(x: Tensor) -> Batch:
    return Batch(inputs=x, targets=x)


def test_a_state_is_exchanged_where_its_history_cannot_be_cut():
    found = looked_at(Counter())
    (site,) = found.sites
    assert site.horizon_method == "none"
    assert found.continuation is not None
    assert (found.continuation.way, found.continuation.reason) == ("multi", "")
    assert site.patching is not None
    assert site.patching.by == "state"
    assert site.patching.denoise is not None
    assert site.patching.noise is not None
    assert site.patching.denoise.value == pytest.approx(1, abs=1e-5), "the state is all that the runs differ by"
    assert site.patching.noise.value == pytest.approx(1, abs=1e-5)
    (cut,) = looked_at(Counter(told=False)).sites
    assert cut.patching is not None
    assert cut.patching.by == "history"


def test_a_model_that_goes_on_wrongly_is_refused_and_the_reason_is_kept():
    found = looked_at(Counter(leak=0.5))
    (site,) = found.sites
    assert found.continuation is not None
    assert found.continuation.way is None
    assert (found.continuation.in_one_call or 0) > 0.1
    assert "standard deviations" in found.continuation.reason
    assert site.patching is None
    assert found.continuation.reason in site.unmeasured["patching"]
    assert site.unmeasured["patching"].startswith("by its history: it cannot be cut")
    assert site.unmeasured["state"] == found.continuation.reason
    assert not any(name.startswith("state") for name in site.measures)
    again = Examination.model_validate_json(found.model_dump_json())
    assert (again.continuation, again.sites[0].unmeasured) == (found.continuation, site.unmeasured)
    (history,) = looked_at(Counter(leak=0.5, told=False)).sites
    assert history.patching is not None, "running the memory on another history needs no state"
    assert history.patching.by == "history"


def test_a_dry_run_says_the_same_of_states_and_counts_their_time():
    planned = plan(Counter(leak=0.5), batches(), sites=["memory"], routes=[], budget=BUDGET)
    assert planned.states == looked_at(Counter(leak=0.5)).continuation
    assert 0 < planned.states_minutes < planned.minutes


@pytest.mark.parametrize("name", ["Qwen3Next", "Mamba"])
def test_surgery_and_running_on_the_other_history_agree(name: str):
    """In the first layer they are the same exchange: there the runs agree on all that its convolution holds."""
    model = build(name)
    clean = tokens(4, 20)
    pair = Pair(clean=clean, corrupt=with_other_history(clean, 6), at=10)
    by_history = patch(model, [pair], [sites_of(model).memories[0].owner or ""], local=4)
    by_state = patch_states(model, [pair], [0], self_test(model, clean))
    for one, other in zip(vars(by_history).values(), vars(by_state).values(), strict=True):
        torch.testing.assert_close(torch.tensor(one), torch.tensor(other), atol=1e-4, rtol=1e-4)
    assert abs(by_state.denoised - by_state.corrupt).max() > 1e-3


@pytest.mark.parametrize("name", ["Mamba", "Mamba2", "Qwen3Next", "xLSTM", "Rwkv", "RecurrentGemma"])
def test_states_are_the_same_by_prefill_and_by_steps(name: str):
    model, x = build(name), tokens(1, 16)
    stream, mixer = stream_of(model), mixer_of(model.get_submodule(sites_of(model).memories[0].owner or ""))
    with torch.no_grad():
        whole = _memory(states_in(stream.start(x, stream.takes_positions)[1])[0], mixer).clone()
        held = stream.start(x[:, :8], stream.takes_positions)[1]
        for at in range(8, 16):
            held = stream.go_on(x[:, at : at + 1], held, at, stream.takes_positions)[1]
        stepped = _memory(states_in(held)[0], mixer)
    assert float(whole.abs().max()) > 1e-4
    torch.testing.assert_close(stepped, whole, rtol=1e-4, atol=1e-5)


MAPS = ("Mamba", "Mamba2", "FalconMamba", "Qwen3Next", "FalconH1", "Jamba", "Bamba", "xLSTM", "MiniMax", "KimiLinear")
VECTORS = ("RecurrentGemma", "Rwkv")
NONE = {"Lfm2": "last inputs of a short convolution", "Llama": "attention keeps keys and values"}


@pytest.mark.parametrize("name", long([*MAPS, *VECTORS, *NONE]))
def test_what_is_had_of_every_class(name: str):
    model = build(name)
    sites = sites_of(model)
    found = stream_states(model, tokens(), sites)
    assert found.reason == ""
    for site in sites.memories:
        if name in NONE:
            assert NONE[name] in found.unmeasured[site.name]
        else:
            values, is_map = found.states[site.name]
            assert values.shape[:2] == (2, 2)
            assert is_map == (name in MAPS)
            assert float((values[:, 0] - values[:, 1]).abs().max()) > 0


def test_nothing_runs_where_states_are_announced():
    model = build_stack(StackConfig.of("gated_delta, bank(n_slots=3)", vocab_size=16, d_model=8), seed=0)
    sites = find_sites(model, lambda: model(tokens() % 16))
    assert stream_states(model, tokens() % 16, sites).record is None


class Beside(Counter):
    """The memory is on trial under a name that returns no state."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(VOCABULARY, VOCABULARY, bias=False)

    def forward(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, state = super().forward(tokens, state)
        return y + self.other(y), state


def test_a_state_is_never_taken_for_another_sites():
    model = Beside()
    both = stream_states(model, batches()[0], find_sites(model, lambda: None, ["memory", "other"], []))
    assert both.states == {}
    assert both.unmeasured["memory"] == "what layer 0 keeps is that of other as well"
    alone = stream_states(model, batches()[0], find_sites(model, lambda: None, ["other"], []))
    assert alone.unmeasured == {"other": "the state that the model returns is not what this module returned"}
    hybrid = build("FalconH1")
    found = stream_states(hybrid, tokens(), find_sites(hybrid, lambda: None, ["model.layers.0.mamba.conv1d"], []))
    assert "Conv1d is no class whose state is known" in found.unmeasured["model.layers.0.mamba.conv1d"]


def test_only_what_a_run_in_pieces_is_told_is_read():
    ids, mask = tokens(3, 10), torch.ones(3, 10, dtype=torch.long)
    mask[1, 7:] = 0
    cpu = torch.device("cpu")
    assert torch.equal(pieces_of({"input_ids": ids, "attention_mask": mask}, cpu), ids[[0, 2]])
    refusals: list[tuple[dict[str, Any], bool, str]] = [
        ({"input_ids": ids, "attention_mask": mask}, True, "sequences are padded"),
        ({"input_ids": ids, "attention_mask": 0 * mask}, False, "sequences are padded"),
        ({"input_ids": ids, "position_ids": ids}, False, "told position_ids besides its tokens"),
    ]
    for batch, every_row, reason in refusals:
        with pytest.raises(ValueError, match=reason):
            pieces_of(batch, cpu, every_row)
    found = stream_states(build("Mamba2"), refusals[2][0], sites_of(build("Mamba2")))
    assert found.record is not None
    assert found.record.way is None
    assert "position_ids" in found.reason
    assert set(found.unmeasured.values()) == {found.reason}
