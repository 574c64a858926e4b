"""State patching against surgery by hand, and on planted memories whose ratios are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mnemoscope.contracts import IGNORE, Batch
from mnemoscope.examination.judgement.statistics import Bootstrap
from mnemoscope.examination.protocol.patching import Pair, Patched, patch, with_other_history
from mnemoscope.experiments.planted.models import Planted, backup, disconnected, load_bearing
from mnemoscope.experiments.planted.world import World, recall
from mnemoscope.runs import Estimate

N = 48


def answered(world: World, inputs: Tensor) -> Tensor:
    """The value that follows each queried key in the context, by looking it up."""
    context, targets = 2 * world.n_pairs, torch.full_like(inputs, IGNORE)
    for row, tokens in enumerate(inputs.tolist()):
        values = dict(zip(tokens[0:context:2], tokens[1:context:2], strict=True))
        for position in range(context, len(tokens)):
            if tokens[position] in values:
                targets[row, position] = values[tokens[position]]
    return targets


def other_values(world: World) -> Pair:
    """The same keys in both contexts, each with the value of the pair before."""
    (batch,) = world.batches(recall, 1, N)
    changed = batch.inputs.clone()
    changed[:, 1 : 2 * world.n_pairs : 2] = changed[:, 1 : 2 * world.n_pairs : 2].roll(1, dims=1)
    clean = Batch(inputs=batch.inputs, targets=answered(world, batch.inputs))
    return Pair(clean=clean, corrupt=Batch(inputs=changed, targets=answered(world, changed)), at=2 * world.n_pairs)


def no_values(world: World) -> Pair:
    """A corrupt context of blanks: nothing to recall."""
    clean = other_values(world).clean
    blank = clean.inputs.clone()
    blank[:, : 2 * world.n_pairs] = 0
    return Pair(clean=clean, corrupt=replace(clean, inputs=blank), at=2 * world.n_pairs)


def ratios(patched: Patched) -> tuple[Estimate, Estimate]:
    bootstrap = Bootstrap(len(patched.clean), 500, seed=0)
    denoise, noise = patched.denoise(bootstrap), patched.noise(bootstrap)
    assert denoise is not None
    assert noise is not None
    return denoise, noise


@pytest.mark.parametrize("seed", range(4))
def test_the_state_of_a_load_bearing_memory_suffices_and_is_needed(seed: int):
    world = World.draw(seed)
    denoise, noise = ratios(patch(load_bearing(world), [other_values(world)], ["memories.0"]))
    assert denoise.low == pytest.approx(1.0, abs=1e-4)
    assert noise.low == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_a_disconnected_memory_carries_nothing_and_its_route_everything(seed: int):
    world = World.draw(seed)
    model, pairs = disconnected(world), [other_values(world)]
    assert [ratio.high for ratio in ratios(patch(model, pairs, ["memories.0"]))] == pytest.approx([0, 0], abs=1e-4)
    assert [ratio.low for ratio in ratios(patch(model, pairs, ["route"]))] == pytest.approx([1, 1], abs=1e-4)


def both_needed(world: World) -> Planted:
    model = backup(world)
    model.join = lambda route, first, second: world.sharpness * torch.minimum(first, second)
    return model


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("build", "expected"), [(backup, (1.0, 0.0)), (both_needed, (0.0, 1.0))])
def test_either_of_two_denoises_and_both_of_two_noise(seed: int, build: object, expected: tuple[float, float]):
    world = World.draw(seed)
    model, pairs = build(world), [no_values(world)]
    for one in ("memories.0", "memories.1"):
        alone = ratios(patch(model, pairs, [one]))
        assert [ratio.value for ratio in alone] == pytest.approx(expected, abs=1e-3)
    together = ratios(patch(model, pairs, ["memories.0", "memories.1"]))
    assert [ratio.value for ratio in together] == pytest.approx([1.0, 1.0], abs=1e-3)


def test_half_the_history_carries_half_the_answers():
    world = World.draw(0)
    pair = no_values(world)
    queried_late = [
        [tokens[: pair.at : 2].index(tokens[p]) == world.n_pairs - 1 for p in np.flatnonzero(scored)]
        for tokens, scored in zip(pair.clean.inputs.tolist(), (pair.clean.targets != IGNORE).numpy(), strict=True)
    ]
    late = np.array([np.mean(row) for row in queried_late])
    denoise, _ = ratios(patch(load_bearing(world), [pair], ["memories.0"], local=2))
    assert denoise.value == pytest.approx(1 - late.mean(), abs=1e-3)


class Recurrent(nn.Module):
    """Embedding, a recurrent layer, a readout that also sees the token itself."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.memory = nn.Embedding(9, 6), nn.GRU(6, 6, batch_first=True)
        self.head = nn.Linear(12, 9)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        return self.head(torch.cat([x, self.memory(x)[0]], dim=-1))


@pytest.fixture
def model() -> Recurrent:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Recurrent().double()


def tokens(seed: int = 0) -> Tensor:
    return torch.randint(0, 9, (5, 11), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_logit_differences_by_surgery_on_the_state(model: Recurrent):
    at, batch = 4, tokens()
    corrupt = with_other_history(batch, at)
    got = patch(model, [Pair(clean=batch, corrupt=corrupt, at=at)], ["memory"])

    def logits(own: Tensor, history: Tensor) -> Tensor:
        _, state = model.memory(model.embedding(history[:, :at]))
        x = model.embedding(own[:, at:])
        return model.head(torch.cat([x, model.memory(x, state)[0]], dim=-1))

    x, other, targets = batch[:, :-1], corrupt[:, :-1], batch[:, at + 1 :]
    runs = [logits(x, x), logits(other, other), logits(other, x), logits(x, other)]
    expected = np.zeros((4, 5))
    for row in range(5):
        for p in range(targets.shape[1]):
            answer, ranking = int(targets[row, p]), runs[1][row, p].argsort(descending=True).tolist()
            foil = next(token for token in ranking if token != answer)
            expected[:, row] += [float(run[row, p, answer] - run[row, p, foil]) / targets.shape[1] for run in runs]
    np.testing.assert_allclose([got.clean, got.corrupt, got.denoised, got.noised], expected, atol=1e-9)


def test_positions_where_the_histories_say_the_same_count_for_nothing(model: Recurrent):
    batch = tokens()
    with torch.no_grad():
        model.head.weight[:, 6:] = 0.0
    got = patch(model, [Pair(clean=batch, corrupt=with_other_history(batch, 4), at=4)], ["memory"])
    assert all((column == 0).all() for column in (got.clean, got.corrupt, got.denoised, got.noised))
    assert got.denoise(Bootstrap(5, 200, seed=0)) is None


def test_the_model_comes_back_as_it_was(model: Recurrent):
    model.train()
    state, batch = torch.get_rng_state(), tokens()
    patch(model, [Pair(clean=batch, corrupt=with_other_history(batch, 4), at=4)] * 2, ["memory"])
    assert model.training
    assert model.memory.training
    assert torch.equal(state, torch.get_rng_state())
    assert not model.memory._forward_hooks


def test_another_history_in_every_kind_of_batch():
    batch = tokens()
    expected = torch.cat([batch[[4, 0, 1, 2, 3], :3], batch[:, 3:]], dim=1)
    assert torch.equal(with_other_history(batch, 3), expected)
    as_batch = with_other_history(Batch(inputs=batch.numpy(), targets=batch.numpy()), 3)
    assert torch.equal(as_batch.inputs, expected)
    assert np.array_equal(as_batch.targets, batch.numpy())
    mask = torch.ones_like(batch)
    mask[0, :2] = 0
    as_mapping = with_other_history({"input_ids": batch, "attention_mask": mask}, 3)
    assert torch.equal(as_mapping["input_ids"], expected)
    assert as_mapping["attention_mask"][:, 0].tolist() == [1, 0, 1, 1, 1]
    assert torch.equal(as_mapping["labels"], batch)


def test_refusals_say_why(model: Recurrent):
    batch = tokens()
    other = with_other_history(batch, 4)
    for bad, why in [
        (Pair(clean=batch, corrupt=other, at=2), "agree from token"),
        (Pair(clean=batch, corrupt=batch, at=4), "differ before"),
        (Pair(clean=batch, corrupt=other[:, :-1], at=4), "one shape"),
    ]:
        with pytest.raises(ValueError, match=why):
            patch(model, [bad], ["memory"])
    with pytest.raises(ValueError, match="integers"):
        with_other_history(torch.zeros(3, 5), 2)
    with pytest.raises(ValueError, match="no multiple"):
        with_other_history(batch, 4, shift=5)
    with pytest.raises(ValueError, match="yourself"):
        with_other_history(["tokens"], 2)
    model.unused = nn.GRU(6, 6)
    with pytest.raises(ValueError, match="ran 0 times"):
        patch(model, [Pair(clean=batch, corrupt=other, at=4)], ["unused"])
