"""The instrumented pass: what it finds at read points, taps and modules of others, and that it leaves no trace."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mnemoscope.contracts import Batch, ReadPoint, tap
from mnemoscope.examination import Budget, NextTokenLoss, examine
from mnemoscope.examination.measures import MEASURES, contribution_ratio, effective_rank, stability
from mnemoscope.examination.protocol.evidence import measure
from mnemoscope.examination.subject.announced_states import announced_states
from mnemoscope.examination.subject.calls import Call
from mnemoscope.examination.subject.sites import find_sites
from mnemoscope.experiments.planted.models import uniform_bank
from mnemoscope.experiments.planted.world import World, recall
from mnemoscope.models import StackConfig, build

TINY = Budget(
    n_calibration=16, n_test=16, fit_steps=1, joint_fit_steps=1, windows=(1,), contribution=False, n_resamples=200
)
LAYOUT = (
    "gated_delta(head_width=4) | attention, energy_bank(n_slots=6), slots(n_slots=3), log_accumulator, "
    "workspace(n_heads=2)"
)


def batches(n: int = 4, size: int = 8, length: int = 12) -> list[Batch]:
    drawn = np.random.default_rng(0).integers(0, 11, (n, size, length + 1))
    return [Batch(inputs=torch.from_numpy(x[:, :-1]), targets=torch.from_numpy(x[:, 1:])) for x in drawn]


def stack(layout: str, d_model: int = 8) -> nn.Module:
    return build(StackConfig.of(layout, vocab_size=11, d_model=d_model), seed=0).eval()


def measures_of(model: nn.Module, batch: Batch, **patterns: list[str]) -> dict[str, dict[str, float]]:
    sites = find_sites(model, lambda: model(batch.inputs), **patterns)
    return measure(model, NextTokenLoss(), batch, sites.memories, sites.routes)


def seen(model: nn.Module, path: str, of: Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor], batch: Batch):
    """What a plain hook sees of a module."""
    found: list[Tensor] = []
    handle = model.get_submodule(path).register_forward_hook(lambda m, a, output: found.append(of(m, a, output)))
    with torch.no_grad():
        model(batch.inputs)
    handle.remove()
    (value,) = found
    return value.detach()


def test_everything_in_a_record_has_a_name_in_the_table():
    examination = examine(stack("gated_delta(head_width=4), energy_bank(n_slots=6), slots"), batches(), budget=TINY)
    for site in (*examination.sites, *examination.routes, *examination.groups):
        assert set(site.measures) <= set(MEASURES)
    gated, bank, slots = (site.measures for site in examination.sites)
    assert 0 < gated["state_share"] <= 1
    assert {"slot_rank", "stability_number", "dead_slots"} <= set(bank)
    assert {"dead_slots", "state_growth"} <= set(slots)


def test_everything_in_the_table_is_measured_somewhere_and_only_where_it_means_something():
    found = measures_of(stack(LAYOUT), batches()[0])
    assert set().union(*found.values()) == set(MEASURES)
    always = {"effective_dimension", "centred_rank", "read_width", "mean_cosine", "mean_vector_share", "gradient_snr"}
    for names in found.values():
        assert always | {"attribution", "gradient_share", "contribution_ratio"} <= set(names)
    gated, bank, slots, accumulator = (
        next(of for name, of in found.items() if name.startswith(f"blocks.{i}") and "beside" not in name)
        for i in range(4)
    )
    assert {"gate_mean", "gate_below_0.01", "state_growth", "state_share"} <= set(gated)
    assert "state_share" not in bank
    assert "state_share" not in slots, "slots are no map from keys to values"
    assert "addressing_entropy" in accumulator
    assert "dead_slots" not in accumulator, "its addressing is over positions"


@pytest.mark.parametrize("kind", ["workspace", "expert_workspace"])
def test_the_loop_of_a_memory_is_measured_against_its_certificate(kind: str):
    layout = f"{kind}(n_heads=2, rho=0.8, step_size=0.5)"
    (found, *_) = measures_of(stack(layout), batches()[0]).values()
    assert found["loop_certificate"] == pytest.approx(0.9)
    assert 0.5 < found["loop_norm"] <= 0.9 + 1e-5, "half of the state stays where it is"
    assert math.log(0.5) < found["loop_lyapunov"] <= math.log(found["loop_norm"]) + 1e-5


def test_a_loop_that_beats_its_certificate_is_seen():
    model = stack("workspace(n_heads=2, rho=0.5)")
    workspace = model.get_submodule("blocks.0.mixer")
    steep = workspace.inner_map
    workspace.inner_map = lambda x: lambda z: steep(x)(3 * z)
    (found, *_) = measures_of(model, batches()[0]).values()
    assert found["loop_norm"] > 1 > found["loop_certificate"]


def test_measures_are_those_of_what_plain_hooks_see():
    model, batch = stack("gated_delta(head_width=4), energy_bank(n_slots=6)"), batches()[0]
    found = measures_of(model, batch)
    states = seen(model, "blocks.0.mixer.state", lambda m, a, output: output, batch)
    gated, bank = found["blocks.0.mixer"], found["blocks.1.mixer"]
    fullest = max(float(torch.stack([effective_rank(head) for head in heads]).mean()) / 4 for heads in states[:, -1])
    assert gated["state_share"] == pytest.approx(fullest, rel=1e-4)
    norm = states.double().flatten(2).norm(dim=-1)
    assert gated["state_growth"] == pytest.approx(float((norm[:, 11] / norm[:, 2]).mean()), rel=1e-4)
    for name, path in (("blocks.0", "blocks.0"), ("blocks.1", "blocks.1")):
        stream = seen(model, path, lambda m, a, output: a[0], batch)
        added = seen(model, f"{path}.mixer.contribution", lambda m, a, output: output, batch)
        ratio = contribution_ratio(added.flatten(0, 1), stream.flatten(0, 1))
        assert found[f"{name}.mixer"]["contribution_ratio"] == pytest.approx(ratio, rel=1e-5)
    queries = seen(model, "blocks.1.mixer.query", lambda m, a, output: output, batch).flatten(0, 1)
    number = stability(queries, 8**-0.5)
    assert bank["stability_number"] == pytest.approx(number.number, rel=1e-5)
    assert bank["stability_threshold"] == 1.0


class Additive(nn.Module):
    """Logits to which a read announced by a tap is added, so that its worth is known to first order and beyond."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 11)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        tap("memory.state", x.cumsum(1).unflatten(-1, (1, 11)))
        return 1e-3 * tap("memory.read", x)


def test_attribution_is_the_effect_where_reads_matter_little():
    torch.manual_seed(0)
    model, batch = Additive(), batches()[0]
    found = measures_of(model, batch)["memory"]
    loss = NextTokenLoss()
    with torch.no_grad():
        read = model.embed(batch.inputs)
        plain = loss(model, batch)
        mean = 1e-3 * read.mean((0, 1)).expand_as(read)
        replaced = loss(_Says(mean), batch)
    assert found["attribution"] == pytest.approx(float((replaced - plain).mean()), rel=0.1)
    state = read.double().cumsum(1).norm(dim=-1)
    assert found["state_growth"] == pytest.approx(float((state[:, 11] / state[:, 2]).mean()), rel=1e-5)
    assert "contribution_ratio" not in found
    assert set(found) <= set(MEASURES)


class _Says(nn.Module):
    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits


def test_a_module_of_others_has_what_can_be_seen_of_its_output():
    class Foreign(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.lstm = nn.Embedding(11, 8), nn.LSTM(8, 11, batch_first=True)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.lstm(self.embed(tokens))[0]

    found = measures_of(Foreign(), batches()[0], sites=["lstm"], routes=[])
    assert set(found["lstm"]) == {
        *("effective_dimension", "centred_rank", "read_width", "mean_cosine", "mean_vector_share"),
        *("gradient_share", "gradient_snr", "attribution"),
    }


@pytest.mark.parametrize("kind", ["lstm", "ntm", "mamba", "s4d", "h3", "omega_mlp", "mlstm", "linear_attention"])
def test_states_of_every_shape(kind: str):
    found = measures_of(stack(kind), batches()[0])["blocks.0.mixer"]
    assert math.isfinite(found["state_growth"])
    assert ("state_share" in found) == (kind in ("mlstm", "linear_attention")), "a matrix for each head of the read"


def test_a_block_that_is_called_without_a_tensor_is_no_stream():
    class Unusual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([_OfText()])

        def forward(self, tokens: Tensor) -> Tensor:
            return self.blocks[0](tokens.tolist())

    found = measures_of(Unusual(), batches()[0], sites=["blocks.0.memory"], routes=[])
    assert "contribution_ratio" not in found["blocks.0.memory"]


class _OfText(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.Embedding(11, 11)

    def forward(self, tokens: list[list[int]]) -> Tensor:
        return self.memory(torch.tensor(tokens))


def test_a_planted_collapse_shows_in_slots_and_reads_alike():
    world = World.draw(0)
    (found,) = (
        of for name, of in measures_of(uniform_bank(world), world.batches(recall, 1, 16)[0]).items() if name != "route"
    )
    assert found["slot_cosine"] == pytest.approx(1.0, abs=1e-4)
    assert found["mean_vector_share"] == pytest.approx(1.0, abs=1e-4)
    assert found["slot_rank"] < 1.2
    assert found["slot_centred_cosine"] == pytest.approx(-1 / 15, abs=0.01), "what is left of slots is noise"
    assert "stability_number" not in found, "no energy shapes this bank"


def test_the_pass_leaves_no_trace_and_repeats_itself():
    model, batch = stack(LAYOUT), batches()[0]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, again = measures_of(model, batch), measures_of(model, batch)
    assert first == again
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_states_are_formed_for_as_many_sequences_as_fit():
    model, batch = stack("gated_delta(head_width=4)"), batches()[0]
    memory = model.get_submodule("blocks.0.mixer")
    x = seen(model, "blocks.0.mixer", lambda m, a, output: a[0], batch)
    call, a_sequence = Call(memory, (x,), {}, x), 12 * 4 * 4 * 4
    point = memory.get_submodule("state")
    all_of_them, two = announced_states(call, point), announced_states(call, point, 3 * a_sequence - 1)
    assert all_of_them is not None
    assert two is not None
    assert (len(all_of_them), len(two)) == (8, 2)
    torch.testing.assert_close(two, all_of_them[:2])
    assert announced_states(call, point, a_sequence - 1) is None
    assert announced_states(call, ReadPoint()) is None, "a point that is never reached"
