"""One token of a differentiable neural computer's memory, in the words of the paper; `dnc_fused` is the fast form.

    usage       u <- (u + w - u w) psi      psi = prod_h (1 - f_h r_h)         with the last weights w, r
    write       w = g_w (g_a a + (1 - g_a) c),   a = allocation(u),   c = content(M_{t-1}, k_w)
    memory      M_t = M_{t-1} * (1 - w e^T) + w v^T
    links       L_ij <- (1 - w_i - w_j) L_ij + w_i p_j, L_ii = 0               p <- (1 - sum w) p + w
    weights     r <- pi_1 L^T r + pi_2 content(M_t, k_r) + pi_3 L r

Source: Graves et al. 2016, "Hybrid computing using a neural network with dynamic external memory" (Nature 538, 471),
methods; the options, Csordás & Schmidhuber 2019 (arXiv 1904.10278), section 3.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.ops.addressing import content_weights, sharpened, written
from mnemoscope.ops.usage import allocation, follow, preceding, retained

SHARPNESS_FLOOR = 1e-6
"""Added to link weights before they are sharpened: before anything is linked, they become even."""


@dataclass(frozen=True, kw_only=True)
class DncOptions:
    """What the controls of a memory are, and what is done with them.

    Args:
        n_read: read heads; there is one write head.
        word: numbers in a slot.
        mask_floor: least value of the masks of content look-ups, in [0, 1); None for no masks.
        deallocation: wipe what is freed, and pass no gradient from usage back to the last write.
        sharpness: sharpen what the links say.
    """

    n_read: int
    word: int
    mask_floor: float | None = None
    deallocation: bool = False
    sharpness: bool = False

    @property
    def groups(self) -> list[int]:
        """How many controls go through each activation.

        None: keys, value. Sigmoid: erase, free, allocate, write, masks. 1 + softplus: strengths, sharpness. Softmax:
        modes.
        """
        n, word = self.n_read, self.word
        masks = 0 if self.mask_floor is None else (n + 1) * word
        return [(n + 2) * word, word + n + 2 + masks, n + 1 + 2 * n * self.sharpness, 3 * n]

    @property
    def n_controls(self) -> int:
        """All of them."""
        return sum(self.groups)


class DncMemory(NamedTuple):
    """The memory, what is known of its slots, and where was last written and read."""

    memory: Float[Tensor, "b m word"]
    usage: Float[Tensor, "b m"]
    link: Float[Tensor, "b m m"]
    precedence: Float[Tensor, "b m"]
    write: Float[Tensor, "b m"]
    weights: Float[Tensor, "b h m"]


class Controls(NamedTuple):
    """What is to be done; of keys, masks and strengths, the last is the write head's."""

    keys: Float[Tensor, "b h1 word"]
    value: Float[Tensor, "b 1 word"]
    erase: Float[Tensor, "b 1 word"]
    free: Float[Tensor, "b h"]
    allocate: Float[Tensor, "b 1"]
    write: Float[Tensor, "b 1"]
    mask: Float[Tensor, "b h1 word"] | None
    strengths: Float[Tensor, "b h1"]
    sharpness: Float[Tensor, "b h2"] | None
    modes: Float[Tensor, "b h 3"]


def activated(raw: Float[Tensor, "b controls"], options: DncOptions) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What a controller puts out, by groups, each through its activation."""
    plain, unit, positive, modes = raw.split(options.groups, dim=-1)
    return plain, unit.sigmoid(), 1 + F.softplus(positive), modes.unflatten(-1, (-1, 3)).softmax(-1)


def named(plain: Tensor, unit: Tensor, positive: Tensor, modes: Tensor, options: DncOptions) -> Controls:
    """The groups taken apart."""
    n, word, floor = options.n_read, options.word, options.mask_floor
    keys, value = plain.unflatten(-1, (n + 2, word)).split([n + 1, 1], dim=1)
    erase, free, allocate, write, mask = unit.split([word, n, 1, 1, unit.shape[-1] - word - n - 2], dim=-1)
    strengths, sharpness = positive.split([n + 1, positive.shape[-1] - n - 1], dim=-1)
    return Controls(
        keys,
        value,
        erase.unsqueeze(1),
        free,
        allocate,
        write,
        None if floor is None else (floor + (1 - floor) * mask).unflatten(-1, (n + 1, word)),
        strengths,
        sharpness if options.sharpness else None,
        modes,
    )


def controls_of(raw: Float[Tensor, "b controls"], options: DncOptions) -> Controls:
    """Controls from what a controller puts out."""
    return named(*activated(raw, options), options)


def dnc_step(
    raw: Float[Tensor, "b controls"], last: DncMemory, options: DncOptions
) -> tuple[Float[Tensor, "b h word"], DncMemory]:
    """Reads and memory after one token: the slow twin of `dnc_fused`."""
    to, n = controls_of(raw, options), options.n_read
    masks = (None, None) if to.mask is None else to.mask.split([n, 1], dim=1)

    psi = retained(last.weights, to.free)
    last_write = last.write.detach() if options.deallocation else last.write
    usage = (last.usage + last_write - last.usage * last_write) * psi

    content = content_weights(last.memory, to.keys[:, n:], to.strengths[:, n:], masks[1]).squeeze(1)
    write = to.write * (to.allocate * allocation(usage) + (1 - to.allocate) * content)
    kept = psi.unsqueeze(-1) * last.memory if options.deallocation else last.memory
    memory = written(kept, write.unsqueeze(1), to.erase, to.value)

    link, forwards, backwards = follow(last.link, write, last.precedence, last.weights)
    precedence = preceding(last.precedence, write)
    if to.sharpness is not None:
        forwards = sharpened(forwards, to.sharpness[:, :n], SHARPNESS_FLOOR)
        backwards = sharpened(backwards, to.sharpness[:, n:], SHARPNESS_FLOOR)
    content = content_weights(memory, to.keys[:, :n], to.strengths[:, :n], masks[0])
    ways = torch.stack([backwards, content, forwards], dim=2)
    weights = (to.modes.unsqueeze(-1) * ways).sum(2)
    return weights @ memory, DncMemory(memory, usage, link, precedence, write, weights)
