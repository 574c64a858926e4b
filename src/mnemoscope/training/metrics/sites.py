"""Figures of read points: of each site, and of the whole model."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from mnemoscope.contracts import announced_role
from mnemoscope.training.metrics.attention_saturation import attention_saturation
from mnemoscope.training.metrics.config import AS_PUBLISHED
from mnemoscope.training.metrics.memory_rank import memory_rank, memory_rank_share
from mnemoscope.training.metrics.observing import Observation, Seen
from mnemoscope.training.metrics.raw_gate import effective_gate, raw_gate, ungated
from mnemoscope.training.metrics.state_magnitude import relative_update, state_norm

Measure = Callable[[Tensor], float | None]

AT_POINTS: Mapping[str, tuple[str, Mapping[str, Measure]]] = {
    "state_magnitude": ("state", {"norm": state_norm, "relative_update": relative_update}),
    "memory_rank": (
        "state",
        {"mean": lambda states: memory_rank(states[:, -1]), "share": lambda states: memory_rank_share(states[:, -1])},
    ),
    "attention_saturation": ("addressing", {"share": attention_saturation}),
}
"""Metrics of one read point: its name, and the figures that are taken of what it announced."""

OF_GATES = frozenset({"gate", "contribution"})


def point_names(metrics: Iterable[str]) -> set[str]:
    """The read points that some metrics need."""
    names = set[str]()
    for metric in metrics:
        names |= (
            {"gate"}
            if metric == AS_PUBLISHED
            else OF_GATES
            if metric == "raw_gate"
            else {AT_POINTS[metric][0]}
            if metric in AT_POINTS
            else set()
        )
    return names


def point_figures(metric: str, observation: Observation) -> dict[str, float]:
    """Figures of a metric of one read point: the mean over sites, then each site's mean over its calls."""
    name, measures = AT_POINTS[metric]
    figures = dict[str, float]()
    for figure, measure in measures.items():
        calls = {site: [measure(seen.raw) for seen in calls] for site, calls in observation.points[name].items()}
        known = {site: [value for value in values if value is not None] for site, values in calls.items()}
        means = {site: sum(values) / len(values) for site, values in known.items() if values}
        if means:
            figures[f"{metric}.{figure}"] = sum(means.values()) / len(means)
            figures |= {f"{metric}.{figure}.{site}": mean for site, mean in means.items()}
    return figures


def memory_gates(model: nn.Module, observation: Observation) -> dict[str, list[Seen]]:
    """Calls of the gates of memories, by the site."""
    return {site: calls for site, calls in observation.points["gate"].items() if calls and _is_memory(model, site)}


def gate_figures(model: nn.Module, observation: Observation) -> dict[str, float]:
    """Figures of the gates of memories: of all their values together, then of each site."""
    gates = memory_gates(model, observation)
    if not gates:
        return {}
    figures = _statistics("", [seen for calls in gates.values() for seen in calls])
    for site, calls in gates.items():
        figures |= _statistics(f".{site}", calls)
    pairs = {site: pair for site in gates if (pair := _effective(site, observation)) is not None}
    for name in ("effective", "branch_share"):
        values = {site: pair[name] for site, pair in pairs.items()}
        if values:
            figures[f"raw_gate.{name}"] = sum(values.values()) / len(values)
            figures |= {f"raw_gate.{name}.{site}": value for site, value in values.items()}
    return figures


def _statistics(suffix: str, calls: list[Seen]) -> dict[str, float]:
    used = [seen.raw if seen.used is None else seen.used for seen in calls]
    raw = torch.cat([seen.raw.flatten() for seen in calls])
    found = raw_gate(raw, torch.cat([part.flatten() for part in used]))
    return {f"raw_gate.{name}{suffix}": value for name, value in found._asdict().items()}


def _effective(site: str, observation: Observation) -> dict[str, float] | None:
    """Of a memory that stands beside exactly one other gated branch, in the first call of both."""
    ours, theirs = _branch(site, observation), None
    parent = site.rpartition(".")[0]
    others = [other for other in observation.points["gate"] if other != site and other.rpartition(".")[0] == parent]
    if len(others) == 1:
        theirs = _branch(others[0], observation)
    if ours is None or theirs is None or ours.shape != theirs.shape:
        return None
    found = effective_gate(observation.points["gate"][site][0].raw, ours, theirs)
    return None if found is None else found._asdict()


def _branch(site: str, observation: Observation) -> Tensor | None:
    """What a branch gave before its gate; None where its gate or its contribution was not announced."""
    gates, contributions = observation.points["gate"].get(site), observation.points["contribution"].get(site)
    if not gates or not contributions:
        return None
    gate, contribution = gates[0].used, contributions[0].raw
    return ungated(contribution, gate) if gate is not None and gate.shape == contribution.shape else None


def _is_memory(model: nn.Module, site: str) -> bool:
    """Whether a gate is a memory's: the role of the first module within its holder that announces one."""
    roles = map(announced_role, model.get_submodule(site).modules())
    return next((role for role in roles if role is not None), "memory") == "memory"
