"""Where a bank's energy leads: one vector, one winner, or many; over sharpness and where the slots began.

    E(M) = E_q[-1/beta log (1/N) sum_i exp(beta q . M_i)] + 1/(2N) sum_i |M_i|^2

Queries are Gaussian with a mean and uneven variances; slots begin at the mean query plus a scale of noise, and follow
the gradient of E. The second variation says that slots which are all one stay so if and only if
beta lambda_max(E[q q^T]) < 1. Started near one vector, the bank must obey that line; started far away it may end
elsewhere, for the line speaks of small changes alone.

    uniform            slots are one vector
    winner-take-all    reads hardly vary, and one slot has most of the mass
    diverse            neither

Source: decorative-memory specification, section 1.3; the energy, Ramsauer et al. 2020 (arXiv 2008.02217), equation 2.
The line and "lost at 1.05, kept at 0.95; a winner already at 0.7 from a large start" are the specification's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.examination.measures.slot_geometry import CollapseKind, collapse_kind
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Series
from mnemoscope.ops.bank_energy import bank_collapse
from mnemoscope.runs.geometry import HeatMap

KINDS: tuple[CollapseKind, ...] = ("uniform", "winner-take-all", "diverse")
ONE = 1e-3
"""Slots are one vector where they lie within this share of the queries' scale of their mean."""


@dataclass(frozen=True, kw_only=True)
class PhaseStudy:
    """Which banks.

    Args:
        sharpness: values of beta lambda_max(E[q q^T]).
        scales: of the noise that slots begin with, over the queries' scale.
        n_slots: of the bank.
        width: channels.
        n_queries: drawn.
        mean: length of the mean query, over the queries' scale.
        steps: of the gradient.
        step_size: of a step, of the slots' own curvature.
    """

    sharpness: tuple[float, ...] = (0.3, 0.5, 0.7, 0.85, 0.95, 1.05, 1.2, 1.5, 2.0, 3.0)
    scales: tuple[float, ...] = (0.01, 0.1, 0.5, 1.0, 2.0, 4.0)
    n_slots: int = 32
    width: int = 16
    n_queries: int = 128
    mean: float = 0.5
    steps: int = 600
    step_size: float = 0.5


def phase(settings: PhaseStudy, seed: int) -> Measured:
    """Where every bank ends."""
    generator = torch.Generator().manual_seed(seed)
    queries = draw_queries(settings, generator)
    noise = torch.randn(settings.n_slots, settings.width, generator=generator, dtype=torch.float64)
    ended = {
        (scale, sharp): _ended(settings, queries, noise, scale, sharp)
        for scale in settings.scales
        for sharp in settings.sharpness
    }
    near, far = min(settings.scales), max(settings.scales)
    obeyed = [(ended[near, sharp] == "uniform") == (sharp < 1) for sharp in settings.sharpness]
    below = [ended[far, sharp] for sharp in settings.sharpness if sharp < 1]
    figures = {
        "line_obeyed": sum(obeyed) / len(obeyed),
        "escaped_below": float(sum(kind != "uniform" for kind in below)),
        "winners": float(sum(kind == "winner-take-all" for kind in ended.values())),
        "winners_below": float(sum(kind == "winner-take-all" for (_, s), kind in ended.items() if s < 1)),
    }
    series = {
        f"scale {scale:g}": [float(KINDS.index(ended[scale, sharp])) for sharp in settings.sharpness]
        for scale in settings.scales
    }
    return Measured(figures=figures, series=series)


def draw_queries(settings: PhaseStudy, generator: torch.Generator) -> Float[Tensor, "q d"]:
    """Gaussian, with standard deviations from 1 down to 0.2 and a mean."""
    deviations = torch.linspace(1, 0.2, settings.width, dtype=torch.float64)
    drawn = torch.randn(settings.n_queries, settings.width, generator=generator, dtype=torch.float64) * deviations
    mean = torch.randn(settings.width, generator=generator, dtype=torch.float64)
    return drawn + settings.mean * mean / mean.norm() * deviations.norm()


def follow(
    queries: Float[Tensor, "q d"],
    slots: Float[Tensor, "m d"],
    inverse_temperature: float,
    steps: int,
    step_size: float,
) -> Float[Tensor, "m d"]:
    """Slots after so many steps down the energy, each of a share of the slots' own curvature 1/N.

    The gradient is (M_i - N E[a_i q]) / N, with a the addresses.
    """
    n_slots, n_queries = len(slots), len(queries)
    for _ in range(steps):
        addresses = (inverse_temperature * (queries @ slots.T)).softmax(-1)
        slots = torch.lerp(slots, addresses.T @ queries * (n_slots / n_queries), step_size)
    return slots


def _ended(
    settings: PhaseStudy, queries: Float[Tensor, "q d"], noise: Float[Tensor, "m d"], scale: float, sharpness: float
) -> CollapseKind:
    size = queries.square().mean().sqrt()
    beta = sharpness / float(bank_collapse(queries, 1.0, None).sharpness)
    start = queries.mean(0) + scale * size * noise
    slots = follow(queries, start, beta, settings.steps, settings.step_size)
    return kind_of(queries, slots, beta)


def kind_of(queries: Float[Tensor, "q d"], slots: Float[Tensor, "m d"], inverse_temperature: float) -> CollapseKind:
    """What a bank has become."""
    spread = (slots - slots.mean(0)).square().mean().sqrt()
    if float(spread / queries.square().mean().sqrt()) < ONE:
        return "uniform"
    addresses = (inverse_temperature * (queries @ slots.T)).softmax(-1)
    kind = collapse_kind(addresses @ slots, addresses)
    return "diverse" if kind == "uniform" else kind


def maps(settings: PhaseStudy, series: Series) -> Sequence[HeatMap]:
    """The phase picture of a seed, for kinds have no mean; the line is between the columns below 1 and those above."""
    return [
        HeatMap(
            title="Where the energy leads: 0 uniform, 1 winner-take-all, 2 diverse",
            rows=[f"start at {scale:g}" for scale in settings.scales],
            columns=[f"{sharp:g}".lstrip("0") for sharp in settings.sharpness],
            values=[list(series[f"scale {scale:g}"]) for scale in settings.scales],
            unit="kind, by beta lambda_max",
        )
    ]


CLAIMS = (
    Claim(
        figure="line_obeyed",
        what="share of banks started near one vector that obey the line beta lambda_max = 1",
        published="stable if and only if below 1",
        least=1.0,
    ),
    Claim(
        figure="escaped_below",
        what="banks below the line, started farthest away, that do not end as one vector",
        published="the line is local: some",
        least=1.0,
    ),
    Claim(
        figure="winners_below",
        what="banks below the line that end with one winner",
        published="already at 0.7 from a large start",
        least=1.0,
    ),
    Claim(figure="winners", what="banks that end with one winner"),
)

PARALLAX_PHASE = Experiment(
    name="parallax-phase",
    what="when does the energy of a bank lead to one vector, one winner or many, and does the stability line say so?",
    source="decorative-memory specification, section 1.3; Ramsauer et al. 2020 (arXiv 2008.02217), equation 2",
    claims=CLAIMS,
    sizes={"small": PhaseStudy()},
    measure=phase,
    minutes={"small": 0.06},
    seed_heat_maps=maps,
)
