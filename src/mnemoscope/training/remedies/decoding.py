"""What reconstruction and prediction share: a small decoder of pieces of the input from what a memory holds."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from mnemoscope.training.remedies.places import Place, find_places
from mnemoscope.training.remedies.treatment import Computed, RemedyConfig, Treatment

SKETCH = 512
"""Numbers of a memory that the decoder starts from."""


@dataclass(frozen=True, kw_only=True)
class DecodingConfig(RemedyConfig):
    """Settings of an auxiliary loss that decodes the input; `strength` is its weight.

    Args:
        point: what the memory holds: its `read`, or its `state`, which is then formed at every token. A module that
            announces nothing is taken by its output, with axes (b, t, ...).
        anchors: positions of every sequence, drawn anew in every step, at which a piece is decoded; at least 1.
        span: inputs of a piece, at least 1; pieces are shorter at the ends of a sequence.
        hidden: width of the decoder, at least 1.
        n_inputs: tokens of the vocabulary, or numbers of an input vector; None for those of the model's first
            embedding, or of its first linear layer where it has no embedding.
    """

    strength: float = 0.5
    point: Literal["read", "state"] = "read"
    anchors: int = 1
    span: int = 32
    hidden: int = 128
    n_inputs: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("anchors", "span", "hidden", "n_inputs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{type(self).__name__}.{name}: must be at least 1, got {value}")


def sketch(held: Float[Tensor, "a *held"]) -> Float[Tensor, "a sketch"]:
    """What a memory holds as `SKETCH` numbers: padded with zeros if there are fewer, else projected at random.

    The projection is the same in every run: signs and an order drawn from a generator of its own, then sums of as many
    numbers as it takes. It keeps the squared norm on average (Charikar, Chen, Farach-Colton 2002, "Finding frequent
    items in data streams").
    """
    flat = held.flatten(1)
    width = flat.shape[1]
    if width <= SKETCH:
        return F.pad(flat, (0, SKETCH - width))
    generator = torch.Generator().manual_seed(0)
    signs = (torch.randint(2, (width,), generator=generator) * 2 - 1).to(flat)
    order = torch.randperm(width, generator=generator).to(flat.device)
    mixed = (flat * signs)[:, order]
    return F.pad(mixed, (0, -width % SKETCH)).unflatten(1, (-1, SKETCH)).sum(1)


class SegmentDecoder(nn.Module):
    """A recurrent network that starts from a memory's sketch and says a piece of the input, given what came before.

    Args:
        n_inputs: tokens of the vocabulary, or numbers of an input vector.
        hidden: width.
    """

    def __init__(self, n_inputs: int, hidden: int) -> None:
        super().__init__()
        self.start = nn.Linear(SKETCH, hidden)
        self.first = nn.Parameter(torch.zeros(hidden))
        self.enter = nn.Linear(n_inputs, hidden, bias=False)
        self.cell = nn.GRU(hidden, hidden, batch_first=True)
        self.leave = nn.Linear(hidden, n_inputs)

    def forward(self, held: Float[Tensor, "a sketch"], piece: Shaped[Tensor, "a s *c"]) -> Float[Tensor, "a s n"]:
        """Logits of every token of the piece, or a guess of every vector, each given those before it."""
        before = piece[:, :-1]
        if piece.is_floating_point():
            entered = self.enter(before)
        else:
            entered = F.embedding(before, self.enter.weight.T)
        first = self.first.expand(len(piece), 1, -1)
        said, _ = self.cell(torch.cat([first, entered], dim=1), self.start(held).tanh().unsqueeze(0))
        return self.leave(said)

    def loss(
        self, held: Float[Tensor, "a sketch"], piece: Shaped[Tensor, "a s *c"], valid: Bool[Tensor, "a s"]
    ) -> Float[Tensor, ""]:
        """Mean over the valid inputs: cross-entropy in nats per token, or squared error per number."""
        said = self(held, piece)[valid]
        wanted = piece[valid]
        return F.mse_loss(said, wanted) if piece.is_floating_point() else F.cross_entropy(said, wanted)


class DecodingTreatment(Treatment):
    """One decoder for each memory; the loss is the mean over memories.

    Args:
        remedy: its settings.
        model: what it is put on.
        ahead: decode what follows the anchor, not what precedes it.
    """

    def __init__(self, remedy: DecodingConfig, model: nn.Module, *, ahead: bool) -> None:
        super().__init__(remedy)
        self.n_anchors, self.span, self.ahead = remedy.anchors, remedy.span, ahead
        self.places = find_places(model, remedy.sites, "memory", remedy.point)
        self.n_inputs = remedy.n_inputs or _count_inputs(model)
        with torch.random.fork_rng(devices=[]):  # what the model draws later does not depend on the decoders
            self.decoders = nn.ModuleList(SegmentDecoder(self.n_inputs, remedy.hidden) for _ in self.places)
        self._held: dict[str, Tensor] = {}
        self._listeners: list[RemovableHandle] = []
        self._loss: Tensor | None = None
        self.on_detach(self._stop_listening)

    def on_step(self, step: int, steps: int) -> None:
        """Listen to the memories in the forward pass that follows, and only then: a state is formed for a listener."""
        super().on_step(step, steps)
        self._stop_listening()
        if self.strength > 0:
            self._listeners = [self._listen(place) for place in self.places]

    def extra_loss(self, computed: Computed) -> Float[Tensor, ""] | None:
        """The weighted loss of the pieces at anchors drawn from torch's generator; inputs are only targets."""
        held = dict(self._held)
        self._stop_listening()
        if self.strength == 0:
            return None
        inputs = computed.inputs.detach()
        self._check(inputs, held)
        rows, anchors, index, valid = self._draw(inputs.shape[0], inputs.shape[1])
        rows, anchors, index, valid = (part.to(inputs.device) for part in (rows, anchors, index, valid))
        piece = inputs[rows.unsqueeze(1), index]
        losses = [
            decoder.loss(*_in_dtype_of(decoder, sketch(held[place.path][rows, anchors]), piece), valid)
            for place, decoder in zip(self.places, self._decoders(), strict=True)
        ]
        loss = torch.stack(losses).mean()
        self._loss = loss.detach()
        return self.strength * loss

    def figures(self) -> dict[str, float]:
        """The strength, and the unweighted loss of the last step that had one."""
        return super().figures() | ({} if self._loss is None else {"loss": float(self._loss)})

    def _decoders(self) -> list[SegmentDecoder]:
        return [decoder for decoder in self.decoders if isinstance(decoder, SegmentDecoder)]

    def _listen(self, place: Place) -> RemovableHandle:
        def see(held: Tensor) -> None:
            self._held.setdefault(place.path, held)

        return place.watch(see)

    def _stop_listening(self) -> None:
        while self._listeners:
            self._listeners.pop().remove()
        self._held.clear()

    def _draw(self, b: int, t: int) -> tuple[Int[Tensor, "a"], Int[Tensor, "a"], Int[Tensor, "a s"], Tensor]:
        """Rows, anchors, positions of the pieces, and which of these lie within the sequence and the piece."""
        rows = torch.arange(b).repeat_interleave(self.n_anchors)
        anchors = torch.randint(t - 1, (len(rows),)) + (0 if self.ahead else 1)
        start = anchors + 1 if self.ahead else (anchors - self.span).clamp(min=0)
        index = start.unsqueeze(1) + torch.arange(min(self.span, t - 1))
        end = t if self.ahead else anchors.unsqueeze(1)
        return rows, anchors, index.clamp(max=t - 1), index < end

    def _check(self, inputs: Tensor, held: dict[str, Tensor]) -> None:
        where = type(self.remedy).__name__
        if inputs.shape[1] < 2:
            raise ValueError(f"{where}: sequences must have at least 2 inputs, got {inputs.shape[1]}")
        largest = inputs.shape[-1] if inputs.is_floating_point() else int(inputs.max()) + 1
        fits = largest == self.n_inputs if inputs.is_floating_point() else largest <= self.n_inputs
        if not fits:
            raise ValueError(
                f"{where}.n_inputs: the decoder was built for {self.n_inputs}, got {largest}; set n_inputs"
            )
        for place in self.places:
            tensor = held.get(place.path)
            if tensor is None or tensor.shape[:2] != inputs.shape[:2]:
                got = "no call in training since on_step" if tensor is None else tuple(tensor.shape)
                raise ValueError(
                    f"{where}: {place.path} must give (b, t, ...) = {(*inputs.shape[:2], '...')}, got {got}; "
                    "call on_step before every forward pass, and name modules that see the whole sequence"
                )


def _in_dtype_of(decoder: SegmentDecoder, held: Tensor, piece: Tensor) -> tuple[Tensor, Tensor]:
    like = decoder.start.weight
    return held.to(like.dtype), piece.to(like.dtype) if piece.is_floating_point() else piece


def _count_inputs(model: nn.Module) -> int:
    embedding = next((module for module in model.modules() if isinstance(module, nn.Embedding)), None)
    if embedding is not None:
        return embedding.num_embeddings
    linear = next((module for module in model.modules() if isinstance(module, nn.Linear)), None)
    if linear is None:
        raise ValueError("remedy: the model has neither an embedding nor a linear layer; set n_inputs")
    return linear.in_features
