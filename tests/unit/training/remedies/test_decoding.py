"""Reconstruction and prediction: which inputs are decoded from which position of the memory, and what learns by it."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.contracts import ReadPoint
from mnemoscope.models import StackConfig, build
from mnemoscope.training.remedies import Computed, Prediction, Reconstruction, treated
from mnemoscope.training.remedies.decoding import SKETCH, DecodingConfig, DecodingTreatment, SegmentDecoder, sketch

VOCAB = 7


class Holding(nn.Module):
    """A memory whose read at every position is the position, as one number."""

    def __init__(self) -> None:
        super().__init__()
        self.read = ReadPoint()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, inputs: Tensor) -> Tensor:
        positions = torch.arange(inputs.shape[1], dtype=torch.float32).expand(inputs.shape[:2])
        return self.read((self.scale * positions).unsqueeze(-1))


def _computed(inputs: Tensor) -> Computed:
    zero = torch.zeros(())
    return Computed(inputs=inputs, targets=inputs, logits=torch.zeros(1, 1, 1), loss=zero, again=lambda: zero)


class Seen(SegmentDecoder):
    """Notes what it is asked to decode."""

    def loss(self, held: Tensor, piece: Tensor, valid: Tensor) -> Tensor:
        self.asked = [
            (round(number[0].item()), row[kept].tolist()) for number, row, kept in zip(held, piece, valid, strict=True)
        ]
        return super().loss(held, piece, valid)


def _asked(remedy: DecodingConfig, t: int) -> list[tuple[int, list[int]]]:
    """Anchors and decoded pieces, the inputs of sequence r being 100 r + position."""
    model = Holding()
    inputs = torch.arange(t) + 100 * torch.arange(4).unsqueeze(1)
    with treated(model, (remedy,)) as (treatment,):
        assert isinstance(treatment, DecodingTreatment)
        seen = Seen(treatment.n_inputs, 4)
        treatment.decoders = nn.ModuleList([seen])
        treatment.on_step(1, 1)
        model(inputs)
        assert treatment.extra_loss(_computed(inputs)) is not None
    return [
        (anchor, [value - 100 * (i // remedy.anchors) for value in piece])
        for i, (anchor, piece) in enumerate(seen.asked)
    ]


@pytest.mark.parametrize("span", [1, 3, 50])
def test_reconstruction_decodes_what_came_before_the_anchor(span: int) -> None:
    torch.manual_seed(0)
    asked = _asked(Reconstruction(anchors=200, span=span, n_inputs=400, hidden=4), 6)
    assert {anchor for anchor, _ in asked} == {1, 2, 3, 4, 5}
    assert all(piece == list(range(max(anchor - span, 0), anchor)) for anchor, piece in asked)


@pytest.mark.parametrize("span", [1, 3, 50])
def test_prediction_decodes_what_comes_after_the_anchor(span: int) -> None:
    torch.manual_seed(0)
    asked = _asked(Prediction(anchors=200, span=span, n_inputs=400, hidden=4), 6)
    assert {anchor for anchor, _ in asked} == {0, 1, 2, 3, 4}
    assert all(piece == list(range(anchor + 1, min(anchor + 1 + span, 6))) for anchor, piece in asked)


def test_anchors_are_uniform_over_positions() -> None:
    torch.manual_seed(0)
    asked = _asked(Reconstruction(anchors=500, n_inputs=400, hidden=4), 5)
    counts = torch.bincount(torch.tensor([anchor for anchor, _ in asked]))
    assert counts[0] == 0
    assert bool(((counts[1:] - 500).abs() < 5 * math.sqrt(500 * 0.75)).all())


def test_a_decoder_that_says_nothing_costs_the_log_of_the_vocabulary() -> None:
    decoder = SegmentDecoder(VOCAB, 4)
    nn.init.zeros_(decoder.leave.weight)
    nn.init.zeros_(decoder.leave.bias)
    piece = torch.tensor([[1, 2, 3]])
    loss = decoder.loss(torch.randn(1, SKETCH), piece, torch.ones(1, 3, dtype=torch.bool))
    assert loss.item() == pytest.approx(math.log(VOCAB))


def test_vectors_are_scored_by_squared_error_where_valid() -> None:
    decoder = SegmentDecoder(2, 4)
    nn.init.zeros_(decoder.leave.weight)
    nn.init.zeros_(decoder.leave.bias)
    piece = torch.tensor([[[1.0, 2.0], [3.0, 1.0], [100.0, 100.0]]])
    loss = decoder.loss(torch.randn(1, SKETCH), piece, torch.tensor([[True, True, False]]))
    assert loss.item() == pytest.approx((1 + 4 + 9 + 1) / 4)


def test_a_decoder_sees_the_memory_and_only_earlier_inputs() -> None:
    torch.manual_seed(0)
    decoder = SegmentDecoder(VOCAB, 4)
    held, piece = torch.randn(1, SKETCH), torch.tensor([[1, 2, 3]])
    said = decoder(held, piece)
    other = decoder(held, torch.tensor([[1, 5, 3]]))
    torch.testing.assert_close(other[:, :2], said[:, :2], rtol=0, atol=0)
    assert not torch.equal(other[:, 2], said[:, 2])
    assert not torch.equal(decoder(held + 1, piece)[:, 0], said[:, 0])


def test_tokens_enter_as_one_hot_vectors_do() -> None:
    torch.manual_seed(0)
    decoder = SegmentDecoder(VOCAB, 4)
    held, piece = torch.randn(2, SKETCH), torch.randint(VOCAB, (2, 5))
    hot = nn.functional.one_hot(piece, VOCAB).float()
    torch.testing.assert_close(decoder(held, piece), decoder(held, hot))


def test_a_short_memory_is_padded_and_a_long_one_keeps_its_norm() -> None:
    short = torch.arange(6.0).view(2, 3)
    assert torch.equal(sketch(short)[:, :3], short)
    assert not sketch(short)[:, 3:].any()
    exact = torch.randn(2, 4, SKETCH // 4)
    assert torch.equal(sketch(exact), exact.flatten(1))
    torch.manual_seed(0)
    long = torch.randn(200, 3, SKETCH - 5)
    short = sketch(long)
    assert short.shape == (200, SKETCH)
    assert torch.equal(short, sketch(long))
    ratio = short.square().sum(1) / long.square().sum((1, 2))
    assert ratio.mean().item() == pytest.approx(1.0, abs=0.02)
    constant = torch.ones(1, 3 * SKETCH - 15)
    assert sketch(constant).square().sum().item() / constant.sum().item() == pytest.approx(1.0, abs=0.3)
    one = torch.eye(3 * SKETCH - 15)
    assert bool((sketch(one).abs().sum(1) == 1).all())
    assert int(sketch(one).abs().sum(0).max()) == 3


def _stack() -> nn.Module:
    return build(StackConfig.of("gated_delta(n_heads=2)", vocab_size=VOCAB, d_model=8), 0)


@pytest.mark.parametrize("point", ["read", "state"])
@pytest.mark.parametrize("kind", [Reconstruction, Prediction])
def test_the_loss_teaches_the_memory_to_hold_but_not_what_follows_it(kind: type[DecodingConfig], point: str) -> None:
    model = _stack().train()
    remedy = kind(point="state" if point == "state" else "read", anchors=4, hidden=8)
    with treated(model, (remedy,)) as (treatment,):
        treatment.on_step(1, 1)
        inputs = torch.randint(VOCAB, (2, 9))
        model(inputs)
        loss = treatment.extra_loss(_computed(inputs))
        assert loss is not None
        loss.backward()
        gradients = {name: p.grad is not None and bool(p.grad.any()) for name, p in model.named_parameters()}
        assert all(p.grad is not None and bool(p.grad.any()) for p in treatment.parameters())
    memory = "blocks.0.mixer"
    assert gradients[f"{memory}.qkv.weight"]
    assert gradients[f"{memory}.write_gate.weight"]
    assert not gradients[f"{memory}.out.weight"]
    assert not gradients["blocks.0.mlp.inner.weight"]


def test_the_strength_is_the_weight_and_the_figure_is_not_weighted() -> None:
    model = _stack().train()
    inputs = torch.randint(VOCAB, (2, 9))
    found = []
    for strength in (0.25, 1.0):
        with treated(model, (Reconstruction(strength=strength, hidden=4),)) as (treatment,):
            treatment.load_state_dict({name: torch.full_like(v, 0.1) for name, v in treatment.state_dict().items()})
            treatment.on_step(1, 1)
            model(inputs)
            torch.manual_seed(0)
            loss = treatment.extra_loss(_computed(inputs))
            assert loss is not None
            assert treatment.figures()["loss"] == pytest.approx(loss.item() / strength)
            found.append(loss.item())
    assert found[0] == pytest.approx(found[1] / 4)


def test_without_strength_nothing_is_listened_to_or_drawn() -> None:
    model = _stack().train()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    with treated(model, (Reconstruction(point="state", begin=0.5, hidden=4),)) as (treatment,):
        treatment.on_step(1, 10)
        inputs = torch.ones(2, 9, dtype=torch.int64)
        model(inputs)
        assert treatment.extra_loss(_computed(inputs)) is None
        assert torch.equal(torch.get_rng_state(), state)
        observed = [module.observed for module in model.modules() if isinstance(module, ReadPoint)]
        assert not any(observed)
        treatment.on_step(10, 10)
        model(inputs)
        assert treatment.extra_loss(_computed(inputs)) is not None
        assert not any(module.observed for module in model.modules() if isinstance(module, ReadPoint))


def test_a_second_pass_on_the_batch_is_not_what_is_decoded() -> None:
    model = Holding()
    inputs = torch.zeros(1, 5, dtype=torch.int64)
    with treated(model, (Reconstruction(n_inputs=3, hidden=4),)) as (treatment,):
        treatment.on_step(1, 1)
        model(inputs)
        with torch.no_grad():
            model(inputs)
        loss = treatment.extra_loss(_computed(inputs))
        assert loss is not None
        loss.backward()
    assert model.scale.grad is not None


def test_vectors_and_several_memories_have_a_decoder_each() -> None:
    model = build(
        StackConfig.of_vectors("gated_delta(n_heads=2), gru", n_channels=3, n_outputs=2, d_model=8), 0
    ).train()
    with treated(model, (Prediction(hidden=4),)) as (treatment,):
        assert isinstance(treatment, DecodingTreatment)
        assert len(treatment.decoders) == 2
        assert treatment.n_inputs == 3
        treatment.on_step(1, 1)
        inputs = torch.randn(2, 6, 3)
        model(inputs)
        loss = treatment.extra_loss(_computed(inputs))
        assert loss is not None
        assert bool(torch.isfinite(loss))


@pytest.mark.parametrize("name", ["anchors", "span", "hidden", "n_inputs"])
def test_a_count_below_one_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"Reconstruction\.{name}: must be at least 1, got 0"):
        replace(Reconstruction(), **{name: 0})


def test_what_does_not_fit_is_refused() -> None:
    model = Holding()
    with pytest.raises(ValueError, match="neither an embedding nor a linear layer; set n_inputs"):
        Reconstruction().attach(model)
    with treated(model, (Reconstruction(n_inputs=3, hidden=4),)) as (treatment,):
        treatment.on_step(1, 1)
        tokens = torch.full((1, 4), 5)
        model(tokens)
        with pytest.raises(ValueError, match="built for 3, got 6; set n_inputs"):
            treatment.extra_loss(_computed(tokens))
        treatment.on_step(1, 1)
        with pytest.raises(ValueError, match=r"read must give .* got no call in training since on_step"):
            treatment.extra_loss(_computed(torch.zeros(1, 4, dtype=torch.int64)))
        treatment.on_step(1, 1)
        model(tokens[:, :3])
        with pytest.raises(ValueError, match=r"got \(1, 3, 1\)"):
            treatment.extra_loss(_computed(torch.zeros(1, 4, dtype=torch.int64)))
        treatment.on_step(1, 1)
        model(tokens[:, :1])
        with pytest.raises(ValueError, match="at least 2 inputs, got 1"):
            treatment.extra_loss(_computed(torch.zeros(1, 1, dtype=torch.int64)))
