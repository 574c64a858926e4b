"""Stochastic window: every training batch has a window of its own, drawn from short to long (R2).

What it does: with probability `strength` a batch draws one of `windows`, all equally likely, and every route looks back
no further than that; otherwise, and where the draw is wider than the model's own window, the model sees what it always
sees. Evaluation has the model's own window. Attention of this library has the same as an option of its own, without
hooks: `attention(window=..., smallest_window=...)`.

Why: with a short window the memory is trained, with a long one the attention; both meet in one model.

Published effect: SWAX, sliding windows beside xLSTM layers, does better on short and on long contexts with windows
drawn in training than with any fixed window (abstract of arXiv 2509.24552).

Known problems: windows as long as the sequences teach what attention can do alone; choose them by the distance at which
the answers lie, not by habit. One draw for a batch makes losses of single steps noisy.

Example: `StochasticWindow(windows=(4, 8, 16, 32))`, or `StochasticWindow(final_strength=0.0)`, which fades out.

Source: Cabannes et al. 2025, arXiv 2509.24552; decorative-memory specification, R2, for the default windows.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from mnemoscope.training.remedies.draws import Draws, require_share
from mnemoscope.training.remedies.places import find_modules
from mnemoscope.training.remedies.treatment import RemedyConfig, Treatment
from mnemoscope.training.remedies.windows import Narrowing, narrow


@dataclass(frozen=True, kw_only=True)
class StochasticWindow(RemedyConfig):
    """Settings; `strength` is the probability that a batch draws its window, in [0, 1].

    Args:
        windows: what is drawn from, in tokens, the present one included.
    """

    kind: Literal["stochastic_window"] = "stochastic_window"
    strength: float = 1.0
    windows: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share(self)
        if not self.windows or min(self.windows) < 1:
            raise ValueError(
                f"StochasticWindow.windows: must be one window or more of at least 1 token each, got {self.windows}"
            )

    def attach(self, model: nn.Module) -> "StochasticWindowTreatment":
        """On every route, or on the attention modules named."""
        return StochasticWindowTreatment(self, model)


class StochasticWindowTreatment(Treatment):
    """One window for all routes and all sequences of a step."""

    def __init__(self, remedy: StochasticWindow, model: nn.Module) -> None:
        super().__init__(remedy)
        self.windows = remedy.windows
        self.window: int | None = None
        """Of the present step; None for the model's own."""
        self._draws = Draws()
        for path, module in find_modules(model, remedy.sites, "route").items():
            for handle in narrow(path, module, self._choose):
                self.on_detach(handle)

    def on_step(self, step: int, steps: int) -> None:
        """Draw a window."""
        super().on_step(step, steps)
        self.window = None
        if self.strength > 0:
            self._draws.renew()
            drawn, which = self._draws.uniform(2, 0).tolist()
            if drawn < self.strength:
                self.window = self.windows[int(which * len(self.windows))]

    def figures(self) -> dict[str, float]:
        """The strength, and the window of the step: 0 for the model's own."""
        return super().figures() | {"window": float(self.window or 0)}

    def _choose(self, batch: int, device: torch.device) -> Narrowing | None:
        return None if self.window is None else Narrowing(window=self.window)
