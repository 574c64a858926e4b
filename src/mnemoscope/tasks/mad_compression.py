"""MAD compression: random tokens are taken in, and all of them must be rebuilt from what was kept.

One sequence of `MadCompressionConfig(vocab_size=8, length=8)`, for a causal model, and one of the published
`MadCompressionConfig(vocab_size=8, length=5, layout="autoencoder")`, with the same four tokens:

               tokens     | rebuild                      tokens     aggregation
    inputs      3 0 6 3   | 7 7 7 7          inputs      3 0 6 3    7
    targets     . . . .   | 3 0 6 3          targets     3 0 6 3    .       (. = IGNORE)

Token V - 1 is the aggregation token; the others are drawn with replacement. With `frac_noise`, each token is replaced
with that probability by one of the last `noise_vocab_size` tokens before V - 1, which nobody need rebuild; one place,
drawn uniformly, never is.

"autoencoder" is the published layout. It is meant for a model whose outputs at all positions are decoded from its
state at the last position. A causal model, whose output at a position sees that position, answers with the present
token and needs no memory: memoryless and floor are both 0. "causal" asks after the aggregation token, so that a
recurrent model must hold everything in the state it has there; attention may look back at the tokens themselves.

All tokens of a sequence decide which split owns it.

Why: how much of a sequence a state at one place can hold.

Known limits: the published layout has no demand for a causal model; take the layout "causal".

Source: Poli, Thomas et al., "Mechanistic Design and Scaling of Hybrid Architectures" (2024, arXiv 2403.17844);
athms/mad-lab, `compression`, commit 0f49a45. What differs: there the inputs are returned as targets, noise included;
here noise is not scored, nor is the aggregation token, which is the same everywhere; some token is never noise; the
causal layout is ours; training draws from its fixed set with replacement, not in epochs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from mnemoscope.contracts.batch import IGNORE, Batch
from mnemoscope.tasks.mad_parts import N_TRAIN, Examples, check_n_train, check_size
from mnemoscope.tasks.streams import Split


@dataclass(frozen=True, kw_only=True)
class MadCompressionConfig:
    """What there is to compress.

    Args:
        kind: names the task in a stored config.
        vocab_size: V, tokens, noise and the aggregation token, at least 3 + noise_vocab_size.
        length: tokens of a sequence, at least 2, and even for "causal"; half of them are to be rebuilt, or all but one.
        layout: where they are asked for: "causal", after the aggregation token; or "autoencoder", in place.
        noise_vocab_size: tokens that are noise and nothing else; 0 without noise, else at least 1.
        frac_noise: probability that a token is noise, at least 0 and below 1.
        n_train: sequences of the training split, at least 1; None: new ones for every batch.

    Raises:
        ValueError: a value out of its range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["mad_compression"] = "mad_compression"
    vocab_size: int = 16
    length: int = 64
    layout: Literal["causal", "autoencoder"] = "causal"
    noise_vocab_size: int = 0
    frac_noise: float = 0.0
    n_train: int | None = N_TRAIN

    def __post_init__(self) -> None:
        where = "MadCompressionConfig"
        if not 0 <= self.frac_noise < 1:
            raise ValueError(f"{where}.frac_noise: must be at least 0 and below 1, got {self.frac_noise}")
        if self.noise_vocab_size < 0 or (self.noise_vocab_size > 0) != (self.frac_noise > 0):
            needed = "at least 1" if self.frac_noise else "0"
            raise ValueError(
                f"{where}.noise_vocab_size: must be {needed} with frac_noise = {self.frac_noise}, got "
                f"{self.noise_vocab_size}; nearest valid: {int(self.frac_noise > 0)}"
            )
        smallest = 3 + self.noise_vocab_size
        if self.vocab_size < smallest:
            raise ValueError(
                f"{where}.vocab_size: must be at least 3 + noise_vocab_size = {smallest} (two tokens, noise, the "
                f"aggregation token), got {self.vocab_size}; nearest valid: {smallest}"
            )
        odd = self.length % 2 if self.layout == "causal" else 0
        if self.length < 2 or odd:
            raise ValueError(
                f"{where}.length: must be at least 2, and even for layout 'causal', got {self.length}; "
                f"nearest valid: {max(2, self.length + odd)}"
            )
        check_n_train(where, self.n_train)


@final
class MadCompression:
    """Batches of MAD compression; the attributes are those of `mnemoscope.tasks.Task`."""

    unit: str = "accuracy"

    def __init__(self, config: MadCompressionConfig) -> None:
        self.config = config
        self.vocab_size: int = config.vocab_size
        self.length: int = config.length
        causal = config.layout == "causal"
        self._n_tokens: int = config.length // 2 if causal else config.length - 1
        self._n_clean: int = config.vocab_size - 1 - config.noise_vocab_size
        self._examples = Examples(self._draw, config.n_train)
        self.chance_loss: float = math.log(self._n_clean)
        """Nats per token of guessing uniformly among those that are no noise."""
        self.memoryless_loss: float = self.chance_loss if causal else 0.0
        """The aggregation token says nothing; in the autoencoder's layout the present token is the answer."""
        self.floor_loss: float = 0.0
        """Every answer stands in its sequence."""

    def batch(self, rng: np.random.Generator, size: int, split: Split) -> Batch:
        """Draw `size` sequences; the same state of `rng` gives different ones for different splits.

        Raises:
            ValueError: size below 1, or an unknown split.
        """
        check_size("MadCompression", size)
        (tokens,) = self._examples.rows(rng, size, split)
        n, order = self._n_tokens, np.arange(self._n_tokens)
        causal = self.config.layout == "causal"
        asked = slice(n, 2 * n) if causal else slice(0, n)
        inputs = np.full((size, self.length), self.vocab_size - 1, dtype=np.int64)
        inputs[:, :n] = tokens
        scored = tokens < self._n_clean
        targets = np.full_like(inputs, IGNORE)
        targets[:, asked] = np.where(scored, tokens, IGNORE)
        query = np.cumsum(scored, axis=1) - 1
        known = {
            # Nothing stands between a token and itself; an autoencoder's outputs all come from the end.
            "distance": np.full(n, n) if causal else n - order,
            "item": query,
            "load": np.broadcast_to(scored.sum(axis=1, keepdims=True), scored.shape),
            "query": query,
        }
        about = {name: np.full_like(inputs, -1) for name in known}
        for name, values in known.items():
            about[name][:, asked] = np.where(scored, values, -1)
        return Batch(inputs=inputs, targets=targets, about=about)

    def _draw(self, rng: np.random.Generator, rows: int, split: Split) -> tuple[NDArray[np.int64]]:
        """Tokens to rebuild, and noise among them; the law is the same in every split."""
        tokens = rng.integers(self._n_clean, size=(rows, self._n_tokens))
        if self.config.frac_noise:
            noisy = rng.random(tokens.shape) < self.config.frac_noise
            noisy[np.arange(rows), rng.integers(self._n_tokens, size=rows)] = False
            tokens[noisy] = rng.integers(self._n_clean, self.vocab_size - 1, size=int(noisy.sum()))
        return (tokens,)

    def words(self, tokens: Sequence[int]) -> list[str]:
        """The aggregation token as a question mark, tokens as numbers, noise n0, n1, ..."""
        clean, last = self._n_clean, self.vocab_size - 1
        return ["?" if t == last else str(t) if t < clean else f"n{t - clean}" for t in tokens]

    def n_sequences(self, split: Split) -> None:
        """No end: sequences are generated, or drawn from the training set with replacement."""
        return None

    def manifest(self) -> dict[str, str | int]:
        """What the data depend on beside config, seed and step: NumPy, whose streams change with releases."""
        return {"name": "mad_compression", "numpy": np.__version__}
