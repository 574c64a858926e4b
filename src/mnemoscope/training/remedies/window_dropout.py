"""Window dropout: now and then attention sees only what is near, so that what is far has to be remembered (R2).

What it does: in training, with probability `strength`, attention looks at the last `window` tokens alone, for a whole
batch or for single sequences; with `window=0` it contributes nothing. Narrowed attention is exact, not an approximation
by masked outputs. The published schedule goes from much dropout to little: give a `final_strength` below `strength`.

Why: branch dropout also takes what attention does among neighbours, which no memory can replace. Here the near stays,
and only the way round the memory is closed.

Published effect: Benfeghoul et al. find that hybrids of linear attention and a sliding window live on the window alone,
and that scheduled dropout of the window restores the use of the linear part (abstract of arXiv 2510.05901; its
schedules are not repeated here).

Known problems: where the window is already narrow there is nothing to drop, which is refused if the model says so. With
`per="sequence"` attention of this library is computed twice in a step. A memory trained this way may be a backup only.

Example: `WindowDropout(strength=0.9, final_strength=0.1, window=4)`, or `sites=("model.layers.*.self_attn",)`.

Source: Benfeghoul et al. 2025, arXiv 2510.05901; decorative-memory specification, R2.
Differs: the published remedy suppresses the branch; a short window in its place is the default here.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from mnemoscope.contracts import Windowed
from mnemoscope.training.remedies.draws import Draws, require_share
from mnemoscope.training.remedies.places import find_modules
from mnemoscope.training.remedies.treatment import RemedyConfig, Treatment
from mnemoscope.training.remedies.windows import Choose, Narrowing, narrow


@dataclass(frozen=True, kw_only=True)
class WindowDropout(RemedyConfig):
    """Settings; `strength` is the probability that the window is narrowed, in [0, 1].

    Args:
        window: tokens that are still seen, the present one included; 0 for none, which switches the route off.
        per: what is narrowed at once, a "sequence" or the whole "batch".
        shared: one draw for all routes.
    """

    kind: Literal["window_dropout"] = "window_dropout"
    strength: float = 0.5
    window: int = 4
    per: Literal["sequence", "batch"] = "sequence"
    shared: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share(self)
        if self.window < 0:
            raise ValueError(
                f"WindowDropout.window: must be at least 0 tokens, got {self.window}; 0 switches the route off"
            )
        if self.per not in ("sequence", "batch"):
            raise ValueError(f"WindowDropout.per: must be 'sequence' or 'batch', got {self.per!r}")

    def attach(self, model: nn.Module) -> "WindowDropoutTreatment":
        """On every route, or on the attention modules named."""
        return WindowDropoutTreatment(self, model)


class WindowDropoutTreatment(Treatment):
    """Narrowed windows, for all sequences (b,) of a batch or some."""

    def __init__(self, remedy: WindowDropout, model: nn.Module) -> None:
        super().__init__(remedy)
        self.settings = remedy
        self._draws = Draws()
        modules = find_modules(model, remedy.sites, "route")
        _require_wider(modules, remedy.window)
        for stream, (path, module) in enumerate(modules.items()):
            for handle in narrow(path, module, self._chooser(0 if remedy.shared else stream)):
                self.on_detach(handle)

    def on_step(self, step: int, steps: int) -> None:
        """Draws last one step."""
        super().on_step(step, steps)
        if self.strength > 0:
            self._draws.renew()

    def _chooser(self, stream: int) -> Choose:
        def choose(batch: int, device: torch.device) -> Narrowing | None:
            if self.strength == 0:
                return None
            if self.settings.per == "batch":
                dropped = bool(self._draws.uniform(1, stream) < self.strength)
                return Narrowing(window=self.settings.window) if dropped else None
            rows = self._draws.uniform(batch, stream, device) < self.strength
            return Narrowing(window=self.settings.window, rows=rows)

        return choose


def _require_wider(modules: dict[str, nn.Module], window: int) -> None:
    """Refuse to drop what is not there."""
    reaches = [module.reach if isinstance(module, Windowed) else None for module in modules.values()]
    widest = max((reach for reach in reaches if reach is not None), default=0)
    if None not in reaches and widest <= window:
        raise ValueError(
            f"WindowDropout.window: must be below the widest window of {', '.join(modules)}, {widest} tokens, got "
            f"{window}; use 0 to switch the route off"
        )
