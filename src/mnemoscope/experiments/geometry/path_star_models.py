"""The networks that learn a path-star by heart: how they are built, frozen, and given embeddings from elsewhere.

    tokens -> embedding + positions -> blocks -> norm -> embedding^T           tied; the head is the embedding

Two controls touch the embedding alone. A *frozen* one stays as it was drawn, so that the graph can only be stored in
the blocks. A *transplanted* one is that of Node2Vec, trained on the edges: centred, each row of length 1.

Source: Noroozizadeh et al. (2025), arXiv 2510.26745, appendices A and E; Shahriarnz14/Geometric_Memory. What differs:
RMS norms; the transplant is an addition.
"""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemoscope.examination.geometry.node2vec import Node2VecConfig, node2vec
from mnemoscope.memories import AttentionConfig
from mnemoscope.models import Stack, StackConfig, build
from mnemoscope.models.mixers import MixerConfig
from mnemoscope.models.stack import Mlp
from mnemoscope.tasks.path_star import PathStar

Positions: TypeAlias = Literal["learned", "sinusoidal", "none"]
Transplant: TypeAlias = Literal["node2vec"]

NODE2VEC_STEPS = 1000
DENSE_NODES, ROWS = 5000, 1024
"""Graphs of more nodes are embedded in float32 and so many rows at a time."""
LONGEST_PERIOD = 10_000.0
"""Of sinusoidal positions, in units of 2 pi tokens."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """A stack over the tokens of a path-star.

    Args:
        mixer: of every block.
        layers: blocks.
        width: of embeddings and residual stream.
        mlp_ratio: width of the feed-forward part over `width`; 0 for none.
        positions: "learned", "sinusoidal" (fixed, Vaswani et al. 2017), or "none" for mixers that see to order.
        residual: see `StackConfig`.
        token_std: standard deviation of the embedding at the start; None for width^-1/2, rows of length about 1.
        weight_std: standard deviation of every matrix in the blocks at the start, to which it is scaled, and biases of
            feed-forward parts begin at 0; None for what each draws. Small, it leaves the graph to the embedding.
        position_std: of learned positions at the start, in units of that of tokens.
        freeze: leave the embedding as it is at the start.
        transplant: start from another embedding of the nodes: "node2vec"; None for a random one.

    Raises:
        ValueError: a value out of its range.
    """

    mixer: MixerConfig = field(default_factory=lambda: AttentionConfig(n_heads=4, positions="none"))
    layers: int = 3
    width: int = 64
    mlp_ratio: float = 4.0
    positions: Positions = "learned"
    residual: bool = True
    token_std: float | None = 0.02
    weight_std: float | None = 0.02
    position_std: float = 1.0
    freeze: bool = False
    transplant: Transplant | None = None

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise ValueError(f"Network.layers: must be at least 1, got {self.layers}; the paper has 12, small ones 3")
        for name in ("token_std", "weight_std", "position_std"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"Network.{name}: must be positive and finite, got {value}; the default is 1 or None")
        if self.position_std != 1 and self.positions != "learned":
            raise ValueError(
                f"Network.position_std: must be 1 where positions are {self.positions!r}, which are not drawn, got "
                f"{self.position_std}; leave it out"
            )


def build_network(network: Network, task: PathStar, seed: int) -> Stack:
    """A stack for one task, whose weights `seed` decides.

    Returns:
        on the CPU; parameters that stay as they are require no gradient.
    """
    model = build(_stack_config(network, task), seed)
    assert isinstance(model.embedding, nn.Embedding)
    weight = model.embedding.weight
    with torch.no_grad():
        drawn_std = network.width**-0.5
        weight *= (network.token_std or drawn_std) / drawn_std
        if model.positions is not None and network.positions == "learned":
            model.positions.weight *= network.position_std * (network.token_std or drawn_std)
        if network.weight_std is not None:
            _scale_blocks(model, network.weight_std)
        if network.transplant is not None:
            weight[: task.config.n_nodes] = node2vec_rows(task, network.width, seed)
    if network.positions == "sinusoidal":
        _fix_sinusoids(model)
    weight.requires_grad_(not network.freeze)
    return model


def node2vec_rows(task: PathStar, width: int, seed: int) -> Float[Tensor, "n m"]:
    """Embeddings of the nodes that full-batch Node2Vec gives to the edges, centred, each row of length 1."""
    large = task.config.n_nodes > DENSE_NODES
    dtype, block_rows = ("float32", ROWS) if large else ("float64", None)
    config = Node2VecConfig(width=width, steps=NODE2VEC_STEPS, seed=seed, dtype=dtype, block_rows=block_rows)
    rows = torch.as_tensor(np.asarray(node2vec(task.edges, config, task.config.n_nodes).source))
    return nn.functional.normalize(rows - rows.mean(dim=0), dim=1).float()


def node_table(model: Stack, n_nodes: int) -> Float[np.ndarray, "n m"]:
    """The embeddings of the nodes, float64."""
    assert isinstance(model.embedding, nn.Embedding)
    return model.embedding.weight[:n_nodes].detach().cpu().double().numpy()


def _stack_config(network: Network, task: PathStar) -> StackConfig:
    placed = network.positions != "none"
    return StackConfig(
        vocab_size=task.vocab_size,
        d_model=network.width,
        mixers=(network.mixer,) * network.layers,
        mlp_ratio=network.mlp_ratio,
        positions="learned" if placed else "none",
        max_tokens=task.length if placed else None,
        residual=network.residual,
    )


def _scale_blocks(model: Stack, std: float) -> None:
    for module in model.blocks.modules():
        # A gate that begins with a matrix of zeros keeps it.
        if isinstance(module, nn.Linear) and bool(module.weight.any()):
            module.weight *= std / module.weight.std()
        if isinstance(module, Mlp):
            module.inner.bias.zero_()
            module.out.bias.zero_()


def _fix_sinusoids(model: Stack) -> None:
    """sin(t / p_i) in the even channels, cos(t / p_i) in the odd ones, for periods p_i in geometric sequence."""
    assert model.positions is not None
    table = model.positions.weight.requires_grad_(False)
    n_tokens, width = table.shape
    token = torch.arange(n_tokens, dtype=torch.float64)[:, None]
    angle = token * LONGEST_PERIOD ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    table[:, 0::2] = angle.sin().to(table)
    table[:, 1::2] = angle.cos()[:, : width // 2].to(table)
