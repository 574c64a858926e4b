"""What an omega memory is built from: its configuration, what may not be combined, and where its gates start.

The memory itself, with its equations and its source, is `mnemoscope.memories.omega`.
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import ConfigDict

from mnemoscope.memories.feature_maps import FeatureOptions
from mnemoscope.memories.gates import require_start
from mnemoscope.memories.parts import require
from mnemoscope.ops.omega import Rule

INITIAL_RETENTION, INITIAL_MOMENTUM = 0.99, 0.9

INITIAL_WINDOW_WEIGHT = 0.9
"""Near the ungated window, where the sigmoid still has a slope."""


@dataclass(frozen=True, kw_only=True)
class OmegaConfig:
    """Omega rule with a matrix memory.

    Args:
        n_heads: heads, one matrix each.
        head_width: channels of a head; None for d_model / n_heads.
        chunk_tokens: tokens whose gradients are taken at the same memory; part of the model.
        granularity: of momentum and retention, which act on every "token", or once per "chunk", which is also read when
            it is complete; of windows of one token only, since a window would merely weigh the tokens otherwise.
        window: tokens in each objective, c; independent of the chunk.
        momentum: carry on the past descent.
        retains: learn a data-dependent retention; off, everything is retained.
        gated_window: learn how much each token weighs in the objectives.
        features: feature map of queries and keys, see `mnemoscope.ops.features`.
        degree: of the feature map; None for the identity.
        sketch_width: features of features="sketch".
        sketch_seed: of its random signs.
        learned_coefficients: train the feature map's coefficients, which start at 1 / i!.
        objective: "delta" for the squared error, "dot" for the inner product (whose gradient depends on no memory, so
            that the chunk matters for `update_every` alone).
        orthogonalise: Newton-Schulz steps on the momentum; 0 for none.
        update_every: tokens between orthogonalised updates; must divide `chunk_tokens`, and equal it where
            granularity="chunk".
        convolution: taps of the short convolution over q, k and v; 0 for none, which stores each token under itself.
        normalise_qk: L2-normalise queries and keys; required for objective="delta".
        normalise_read: RMS-normalise the read per head.
        output_gate: multiply the read by silu(W_g x).
        initial_retention: where the retention starts.
        initial_momentum: where the momentum starts.
        initial_step_size: where the step size starts; None for `default_step_size`.
        detach_write: write under no gradient, for comparison with code that does; keys, values and gates then never
            train.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["omega"] = "omega"
    n_heads: int = 4
    head_width: int | None = None
    chunk_tokens: int = 16
    granularity: Literal["token", "chunk"] = "token"
    window: int = 4
    momentum: bool = True
    retains: bool = True
    gated_window: bool = False
    features: Literal["identity", "elementwise", "monomial", "sketch"] = "identity"
    degree: int | None = None
    sketch_width: int | None = None
    sketch_seed: int = 0
    learned_coefficients: bool = False
    objective: Literal["delta", "dot"] = "delta"
    orthogonalise: int = 0
    update_every: int = 1
    convolution: int = 4
    normalise_qk: bool = True
    normalise_read: bool = True
    output_gate: bool = True
    initial_retention: float = INITIAL_RETENTION
    initial_momentum: float = INITIAL_MOMENTUM
    initial_step_size: float | None = None
    detach_write: bool = False

    def __post_init__(self) -> None:
        for name in ("n_heads", "chunk_tokens", "window", "update_every"):
            require(getattr(self, name) >= 1, f"omega.{name}", "at least 1", getattr(self, name), "use 1 or more")
        for name in ("convolution", "orthogonalise"):
            require(getattr(self, name) >= 0, f"omega.{name}", "0 or more", getattr(self, name), "use 0 for none")
        require(
            self.head_width is None or self.head_width >= 1,
            "omega.head_width",
            "at least 1, or None for d_model / n_heads",
            self.head_width,
            "use None",
        )
        self.feature_options.validate("omega")
        self._validate_updates()
        require_start(self.initial_retention, "omega.initial_retention")
        require_start(self.initial_momentum, "omega.initial_momentum")
        if self.initial_step_size is not None:
            require_start(self.initial_step_size, "omega.initial_step_size")
        require(
            self.retains or self.initial_retention == INITIAL_RETENTION,
            "omega.initial_retention",
            f"left at {INITIAL_RETENTION} where retains=False",
            self.initial_retention,
            "set retains=True or leave it out",
        )
        require(
            self.momentum or self.initial_momentum == INITIAL_MOMENTUM,
            "omega.initial_momentum",
            f"left at {INITIAL_MOMENTUM} where momentum=False",
            self.initial_momentum,
            "set momentum=True or leave it out",
        )
        require(
            self.window > 1 or not self.gated_window,
            "omega.gated_window",
            "off where window=1, since the step size already weighs a single token",
            self.gated_window,
            "set gated_window=False or a longer window",
        )
        require(
            self.normalise_qk or self.objective == "dot",
            "omega.normalise_qk",
            "on where objective='delta', since the descent grows without bound for long keys",
            self.normalise_qk,
            "set normalise_qk=True or objective='dot'",
        )

    def _validate_updates(self) -> None:
        every = self.update_every
        require(
            self.chunk_tokens % every == 0,
            "omega.update_every",
            f"a divisor of chunk_tokens={self.chunk_tokens}",
            every,
            "change either",
        )
        require(
            every == 1 or self.orthogonalise > 0,
            "omega.update_every",
            "1 where orthogonalise=0, since plain updates are exact per token",
            every,
            "set orthogonalise=5 or leave it out",
        )
        require(
            self.granularity == "token" or self.window == 1,
            "omega.window",
            "1 where granularity='chunk', whose tokens are all in one objective",
            self.window,
            "set window=1 or granularity='token'",
        )
        require(
            self.granularity == "token" or not self.orthogonalise or every == self.chunk_tokens,
            "omega.update_every",
            f"chunk_tokens={self.chunk_tokens} where granularity='chunk', which updates at the end of a chunk",
            every,
            f"set update_every={self.chunk_tokens} or granularity='token'",
        )
        require(
            every == 1 or self.momentum or self.granularity == "chunk",
            "omega.update_every",
            "1 where momentum=False, since only momentum carries the tokens between updates",
            every,
            "set momentum=True or leave it out",
        )

    @property
    def default_step_size(self) -> float:
        """Where a key that never changes is written once per chunk, and so neither overshoots nor is lost.

        2 eta c b / (1 - theta) = 1: each of b tokens stands in c objectives, at one memory, and momentum repeats every
        step 1 / (1 - theta) times. An orthogonalised update has the size of its step.
        """
        if self.orthogonalise:
            return 0.1
        return (1 - self.initial_momentum * self.momentum) / (2 * self.chunk_tokens * self.window)

    @property
    def feature_options(self) -> FeatureOptions:
        """The part that concerns the feature map."""
        return FeatureOptions(
            self.features, self.degree, self.sketch_width, self.sketch_seed, self.learned_coefficients
        )

    @property
    def rule(self) -> Rule:
        """The part that concerns the recurrence."""
        return Rule(self.chunk_tokens, self.window, self.objective, self.orthogonalise, self.update_every)
