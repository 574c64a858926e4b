"""How much an examination may cost."""

from dataclasses import dataclass

from pydantic import ConfigDict


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Sequences, optimisation steps and resamples of an examination.

    Args:
        n_calibration: sequences on which means and optimal constants are fitted; a third of them choose the best.
        n_test: held-out sequences on which every effect is measured, at most.
        looks: times at which the test pass may stop because every verdict is there; the 5 % are spent over them.
        fit_steps: at most so many Adam steps for one optimal constant.
        joint_fit_steps: at most so many for several at once, which start from the single ones.
        windows: token counts of the horizon curve; the local window is added.
        contribution: also measure at the contribution, after the gate.
        write_freeze: also measure what writes after the middle of the sequence are worth; costs as many runs of the
            memory as there are tokens after it.
        untrained_copy: also run a copy of the model with fresh parameters, as a control and as the floor of the probe
            of stored information; costs as much memory again as the model.
        n_resamples: bootstrap resamples.
        max_minutes: stop testing then, and decide on what is there; half of it is for fitting. None: no limit.
        tape_bytes: recorded activations of the calibration sequences that may be kept; beyond, they are recomputed.
        seed: of bootstrap, random constants and fits.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    n_calibration: int = 512
    n_test: int = 1024
    looks: int = 3
    fit_steps: int = 300
    joint_fit_steps: int = 100
    windows: tuple[int, ...] = (1, 4, 16)
    contribution: bool = True
    write_freeze: bool = False
    untrained_copy: bool = True
    n_resamples: int = 10_000
    max_minutes: float | None = None
    tape_bytes: int = 2**30
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("n_calibration", 8), ("n_test", 8), ("fit_steps", 1), ("joint_fit_steps", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"budget.{name} must be at least {least}, got {getattr(self, name)}")
        if self.looks < 1:
            raise ValueError(f"budget.looks must be at least 1, got {self.looks}")
        if self.max_minutes is not None and self.max_minutes <= 0:
            raise ValueError(f"budget.max_minutes must be None or more than 0, got {self.max_minutes}")
        if self.n_resamples < 200:
            raise ValueError(f"budget.n_resamples must be at least 200 for a 95 % interval, got {self.n_resamples}")
        if any(window < 1 for window in self.windows):
            raise ValueError(f"budget.windows must be token counts of at least 1, got {self.windows}")
