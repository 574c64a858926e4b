"""How far ahead a network of the three moons foresees them: many contexts in one pass over the observations.

    exact      25 predictions, each stored as what followed the one before
    official   predictions 2 ... 26 in the place of 1 ... 25; what follows the last observation, and every prediction,
               is stored as zero

The same figures as `mnemoscope.tasks.three_moons.rollout_errors`, whose predictor reads everything anew for each
prediction: here the memory is a stream, and a context of n observations is the state after n steps.

Source: "Memory Mosaics" (2024), figures 4 and 5; the protocols: `mnemoscope.tasks.three_moons`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from mnemoscope.examination.subject.losses import input_device
from mnemoscope.memories.contextual import ContextualState
from mnemoscope.models.moons import MoonsNetwork
from mnemoscope.tasks.three_moons import TRIPLES, RolloutProtocol, Triple, observations

N_AHEAD = 25
STARTS = 8399


@dataclass(frozen=True, kw_only=True)
class Skies:
    """Observations of one triple of periods.

    Args:
        triple: the periods, in units of time.
        seen: observations, float32 (b, n, 6).
    """

    triple: Triple
    seen: NDArray[np.float32]


def skies(triple: Triple, n_sequences: int, length: int, seed: int = 0) -> Skies:
    """Sequences that begin anywhere; the same ones for the same seed."""
    starts = np.random.default_rng(seed).integers(STARTS, size=n_sequences)
    return Skies(triple=triple, seen=observations(np.tile(triple, (n_sequences, 1)), starts, length))


def validation_skies(n_sequences: int, length: int) -> Skies:
    """Of the triple that no training shows."""
    return skies(TRIPLES["validation"][0], n_sequences, length)


@torch.no_grad()
def errors(
    network: MoonsNetwork, watched: Skies, contexts: Sequence[int], protocol: RolloutProtocol = "exact"
) -> NDArray[np.float64]:
    """Mean absolute deviation of 25 predictions after each length of context.

    Args:
        network: what foresees.
        watched: what is foreseen.
        contexts: rising, at least 1, so long that 25 observations follow.
        protocol: see the top of this file.

    Returns:
        The mean over sequences, steps and channels for each of `contexts`.

    Raises:
        ValueError: contexts that do not rise, or are empty or too long.
    """
    seen = torch.from_numpy(watched.seen).to(input_device(network))
    _check(contexts, seen.shape[1])
    state, found, wanted = network.memory.init_state(len(seen)), list[float](), set(contexts)
    for n in range(1, max(contexts) + 1):
        foreseen, state = network.memory.step(seen[:, n - 1], state)
        if n in wanted:
            ahead = rollout(network, foreseen, state, protocol)
            found.append((ahead - seen[:, n : n + N_AHEAD]).abs().double().mean().item())
    return np.array(found)


@torch.no_grad()
def foreseen(network: MoonsNetwork, watched: Skies, contexts: Sequence[int]) -> NDArray[np.float32]:
    """The last of 25 predictions after each length of context; see `errors`.

    Returns:
        Shape (sequences, contexts, 6).
    """
    seen = torch.from_numpy(watched.seen).to(input_device(network))
    _check(contexts, seen.shape[1])
    state, found, wanted = network.memory.init_state(len(seen)), list[Tensor](), set(contexts)
    for n in range(1, max(contexts) + 1):
        first, state = network.memory.step(seen[:, n - 1], state)
        if n in wanted:
            found.append(rollout(network, first, state)[:, -1])
    return torch.stack(found, dim=1).cpu().numpy()


@torch.no_grad()
def rollout(
    network: MoonsNetwork, first: Float[Tensor, "b c"], state: ContextualState, protocol: RolloutProtocol = "exact"
) -> Float[Tensor, "b n c"]:
    """Go on with the network's own predictions.

    Args:
        network: that made both of the following.
        first: its prediction after the last observation.
        state: of its memory at that moment.
        protocol: see the top of this file.

    Returns:
        25 predictions.
    """
    late = protocol == "official"
    ahead = [first]
    while len(ahead) < N_AHEAD + late:
        following, state = network.memory.step(ahead[-1], state)
        if late:
            state.v[:, :, -1] = 0
            following, state = _again(network, state)
        ahead.append(following)
    return torch.stack(ahead[late:], dim=1)


def repeating(watched: Skies, contexts: Sequence[int]) -> NDArray[np.float64]:
    """The errors of expecting the last observation again."""
    seen = watched.seen.astype(np.float64)
    return np.array([np.abs(seen[:, n - 1 : n] - seen[:, n : n + N_AHEAD]).mean() for n in contexts])


def _again(network: MoonsNetwork, state: ContextualState) -> tuple[Float[Tensor, "b c"], ContextualState]:
    """What the last query reads, from the pairs as they are now."""
    memory = network.memory
    weights = memory.smoothing.weights(state.k[:, :, -1:], state.k[:, :, :-1])
    return memory.out((weights @ state.v).flatten(1)), state


def _check(contexts: Sequence[int], n_seen: int) -> None:
    most = n_seen - N_AHEAD
    rising = all(a < b for a, b in pairwise(contexts))
    if not contexts or not rising or contexts[0] < 1 or contexts[-1] > most:
        raise ValueError(
            f"errors: contexts must rise from at least 1 to at most {most}, so that {N_AHEAD} observations follow, "
            f"got {list(contexts)}"
        )
