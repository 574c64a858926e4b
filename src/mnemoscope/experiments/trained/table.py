"""The page of trained truth, in Markdown: one row for each seed, and for each hybrid what its seeds say together."""

from collections.abc import Sequence

import numpy as np

from mnemoscope.examination.judgement.statistics import hierarchical
from mnemoscope.experiments.calibrate import versions
from mnemoscope.experiments.calibration import LOAD_BEARING
from mnemoscope.experiments.trained.hybrids import LOCAL_WINDOW, Hybrid
from mnemoscope.experiments.trained.truth import Outcome
from mnemoscope.runs import Estimate

USED = (*LOAD_BEARING, "saturated")
EFFECTS_ONLY = "effects only"
UNDECIDED = ("inconclusive", "untrained", None)

HEADS = (
    "seed",
    "loss",
    "accuracy",
    "optimal-constant effect",
    "share of the headroom",
    "verdict",
    "retrained without: loss",
    "D19 headroom",
    "agree",
)

LEGEND = f"""\
Loss and effects in nats per scored token, 95 % intervals over test sequences in brackets. Effect, share and verdict
are those of all memories together: what the trained model loses when their reads are held at the best constant, their
Shapley share among memories and attention, and the decision table's row; the verdict of each memory follows where there
are several. *Retrained without*: the same model from the same seed on the same data in the same order, every memory
replaced by a gated convolution over {LOCAL_WINDOW} tokens with as many parameters; *D19 headroom* is its loss less the
hybrid's on the same test sequences. Both are compared with the margin of the examination.

The two ask different things: the verdict whether this model uses its memory, D19 whether a model that was trained
without it for as many steps does worse. A memory may be used and not needed; and a model that learns faster with the
module, but does not use its history once trained, is worse without and has no load-bearing memory."""


def agreement(outcome: Outcome) -> str:
    """Whether verdict and retraining say the same, and if not, how they differ."""
    if outcome.verdict in UNDECIDED:
        return "undecided: the verdict is open"
    if outcome.headroom.low <= outcome.margin <= outcome.headroom.high:
        return "undecided: the headroom straddles the margin"
    used, needed = outcome.verdict in USED, outcome.headroom.low > outcome.margin
    if used == needed:
        return "yes: memory used and needed" if used else "yes: memory neither used nor needed"
    return "no: memory used, not needed" if used else "no: memory not used, yet worse without"


def is_missed(outcome: Outcome) -> bool:
    """Whether both the optimal constant and retraining cost surely more than the margin."""
    return outcome.optimal_constant.low > outcome.margin and outcome.headroom.low > outcome.margin


def failures(hybrids: Sequence[Hybrid], found: Sequence[Outcome]) -> list[str]:
    """Seeds of a control whose memories are not missed under both."""
    controls = {hybrid.name for hybrid in hybrids if hybrid.control}
    return [
        f"{outcome.hybrid} seed {outcome.seed}: the control must lose more than the margin of {outcome.margin:.3f} "
        f"under both, lost {outcome.optimal_constant} by the optimal constant and {outcome.headroom} retrained"
        for outcome in found
        if outcome.hybrid in controls and not is_missed(outcome)
    ]


def page(hybrids: Sequence[Hybrid], n_seeds: int, found: Sequence[Outcome], command: str) -> str:
    """The whole page.

    Args:
        hybrids: those that were asked for.
        n_seeds: seeds of each.
        found: what is finished; the other rows say that they are not.
        command: what makes the page again.
    """
    by_seed = {(outcome.hybrid, outcome.seed): outcome for outcome in found}
    lines = ["# Trained truth: verdicts beside retraining without the memory", "", f"`{command}`", "", LEGEND]
    for hybrid in hybrids:
        rows = [by_seed.get((hybrid.name, seed)) for seed in range(n_seeds)]
        lines += ["", f"## {hybrid.name}", "", _settings(hybrid), "", *_table(rows), "", together(rows)]
    failed = [line for failure in failures(hybrids, found) for line in ("", f"FAILED: {failure}.")]
    return "\n".join([*lines, *failed, "", _versions(found), ""])


def together(rows: Sequence[Outcome | None]) -> str:
    """What the seeds of a hybrid say: how often the two agree, and the spread of the headroom."""
    found = [row for row in rows if row is not None]
    if len(found) < len(rows):
        return f"UNFINISHED: {len(found)} of {len(rows)} seeds." + (f" {_spread(found)}" if found else "")
    return _spread(found)


def _spread(found: Sequence[Outcome]) -> str:
    headrooms = [outcome.headroom.value for outcome in found]
    agreeing = sum(agreement(outcome).startswith("yes") for outcome in found)
    text = f"D19 headroom: {np.mean(headrooms):.3f}"
    if len(found) > 1:
        text += f" over seeds, from {min(headrooms):.3f} to {max(headrooms):.3f}"
        between = hierarchical([np.asarray(outcome.differences) for outcome in found])
        text += f" (seeds and sequences resampled: {between.low:.3f} to {between.high:.3f})"
    margin = max(outcome.margin for outcome in found)
    losing = sum(map(is_missed, found))
    return (
        f"{text}; margin {margin:.3f}. Verdict and D19 agree in {agreeing} of {len(found)} seeds; "
        f"{losing} of {len(found)} lose more than the margin under both."
    )


def _settings(hybrid: Hybrid) -> str:
    task, train = hybrid.task, hybrid.train
    return (
        f"{hybrid.what[0].upper()}{hybrid.what[1:]}. Recall of {task.n_pairs} pairs, vocabulary {task.vocab_size}, "
        f"{task.length} tokens; {train.steps} steps of {train.batch_size} sequences, AdamW {train.learning_rate:g}, "
        f"cosine."
    )


def _table(rows: Sequence[Outcome | None]) -> list[str]:
    cells = [HEADS, ["---"] * len(HEADS)]
    cells += [_unfinished(seed) if row is None else _row(row) for seed, row in enumerate(rows)]
    return [f"| {' | '.join(row)} |" for row in cells]


def _unfinished(seed: int) -> list[str]:
    return [str(seed), "not finished", *["–"] * (len(HEADS) - 2)]


def _row(outcome: Outcome) -> list[str]:
    several = outcome.sites if len(outcome.sites) > 1 else {}
    each = ", ".join(f"{name}: {verdict or EFFECTS_ONLY}" for name, verdict in several.items())
    return [
        str(outcome.seed),
        f"{outcome.loss['with']:.3f}",
        f"{outcome.accuracy['with']:.1%}",
        str(outcome.optimal_constant),
        _percent(outcome.share),
        "; ".join(filter(None, [outcome.verdict or EFFECTS_ONLY, each])),
        f"{outcome.loss['without']:.3f}",
        str(outcome.headroom),
        agreement(outcome),
    ]


def _percent(share: Estimate | None) -> str:
    return "–" if share is None else f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}]"


def _versions(found: Sequence[Outcome]) -> str:
    sizes = {outcome.hybrid: outcome.parameters for outcome in found}
    with_and_without = "; ".join(f"{name} {of['with']:,} and {of['without']:,}" for name, of in sizes.items())
    n_test = _range([outcome.n_test for outcome in found])
    n_compared = _range([len(outcome.differences) for outcome in found])
    known = ", ".join(f"{name} {version}" for name, version in versions().items())
    instrument = ", ".join(sorted({outcome.version for outcome in found}))
    figures = (
        f"Parameters with and without: {with_and_without}. Test sequences of a verdict, which stops at the look that "
        f"decides: {n_test}; of D19: {n_compared}. "
    )
    return f"{figures if found else ''}Versions: {known}; instrument {instrument or '–'}."


def _range(values: Sequence[int]) -> str:
    """The only value, or the least and the largest."""
    return " to ".join(f"{value:,}" for value in sorted({min(values), max(values)})) if values else "–"
