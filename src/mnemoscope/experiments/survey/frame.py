"""What a study is: an experiment, and the claims of the literature that its figures answer.

    holds                       every figure that decides the claim is within its bar, in as many seeds as must be
    holds only when ...         some are: under their conditions
    does not hold               none is, and each is outside its bar in more than half of the seeds
    undecided                   none is, but of one at least half of the seeds are within the bar
    not testable at this size   what the claim presupposes did not come about (the control did not learn the task, say)

Only those seeds decide in which what is presupposed came about; where these are not more than half of all, the claim
cannot be tested. Bars are those of the source. Where it gives a direction and no number, the bar is the smallest
difference that counts here, and the row says "ours".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from mnemoscope.experiments.reproducing import Claim, Experiment, Result
from mnemoscope.runs.reproduction import TextTable

Answer = Literal[
    "holds", "does not hold", "holds only when", "undecided", "not testable at this size", "not measured yet"
]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A claim of the literature, and how its study answers it.

    Args:
        slug: of its page, among all findings.
        claim: in one sentence.
        source: who says so, and where.
        decided_by: figures whose bars decide it, each with the condition under which it was measured.
        requires: figures whose bars must hold in a seed for that seed to say anything.
        if_holds: what to do in practice where it holds.
        if_not: what to do where it does not.
        elsewhere: what the small size leaves open, and the test that would decide it.

    Raises:
        ValueError: nothing decides it.
    """

    slug: str
    claim: str
    source: str
    decided_by: Mapping[str, str]
    requires: tuple[str, ...] = ()
    if_holds: str
    if_not: str
    elsewhere: str

    def __post_init__(self) -> None:
        if not self.decided_by:
            raise ValueError(f"Finding {self.slug}: decided_by must name a figure at least; name one of its claims")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The answer to a claim.

    Args:
        answer: in words.
        when: conditions under which it holds.
        able: seeds that could decide, of those that are there.
        within: by figure that decides, in how many of them it is within its bar.
    """

    answer: Answer
    when: tuple[str, ...] = ()
    able: int = 0
    within: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        """The answer with its conditions."""
        return f"{self.answer}: {'; '.join(self.when)}" if self.answer == "holds only when" else self.answer


@dataclass(frozen=True, kw_only=True)
class Study:
    """An experiment and its findings; see `study`."""

    experiment: Experiment[Any]
    findings: tuple[Finding, ...]


def study(experiment: Experiment[Any], *findings: Finding) -> Study:
    """A study; the page of its experiment gets a table of the findings.

    Raises:
        ValueError: a finding that rests on a figure without a bar, or that no claim of the experiment is about.
    """
    bars = {claim.figure: claim.bar for claim in experiment.claims}
    for finding in findings:
        for figure in (*finding.decided_by, *finding.requires):
            if bars.get(figure, "-") == "-":
                raise ValueError(
                    f"Finding {finding.slug}: {figure!r} must be a claim of {experiment.name} with a bar; those are "
                    f"{', '.join(name for name, bar in bars.items() if bar != '-')}"
                )
    tables = partial(_tables, tuple(findings), tuple(experiment.claims), experiment.tables)
    return Study(experiment=replace(experiment, tables=tables), findings=tuple(findings))


def verdict(finding: Finding, claims: Sequence[Claim], found: Sequence[Result]) -> Verdict:
    """What the seeds that are there say of a claim."""
    if not found:
        return Verdict(answer="not measured yet")
    bars = {claim.figure: claim for claim in claims}
    able = [r for r in found if all(bars[figure].holds(r.figures[figure]) for figure in finding.requires)]
    if 2 * len(able) <= len(found):
        return Verdict(answer="not testable at this size", able=len(able))
    within = {figure: sum(bars[figure].holds(r.figures[figure]) for r in able) for figure in finding.decided_by}
    met = [figure for figure in within if bars[figure].is_met([r.figures for r in able])]
    when = tuple(finding.decided_by[figure] for figure in met)
    if len(met) == len(within):
        answer: Answer = "holds"
    elif met:
        answer = "holds only when"
    else:
        answer = "undecided" if any(2 * n >= len(able) for n in within.values()) else "does not hold"
    return Verdict(answer=answer, when=when if answer == "holds only when" else (), able=len(able), within=within)


def practice(finding: Finding, answered: Verdict) -> str:
    """What to do about it."""
    match answered.answer:
        case "holds":
            return finding.if_holds
        case "does not hold":
            return finding.if_not
        case "holds only when":
            return f"Under these conditions: {finding.if_holds} Otherwise: {finding.if_not}"
        case "undecided":
            return "Seeds contradict each other: run more of them, and examine your own network before you act on it."
        case _:
            return "Nothing can rest on this yet."


def _tables(
    findings: Sequence[Finding],
    claims: Sequence[Claim],
    others: Any,
    settings: Any,
    found: Sequence[Result],
) -> list[TextTable]:
    """The findings, then what the experiment has of its own."""
    answered = [(finding, verdict(finding, claims, found)) for finding in findings]
    summary = TextTable(
        title="What this says of the literature's claims",
        caption="Each claim as its source makes it; the answer is that of the seeds above, at this size.",
        columns=["Claim", "Source", "Answer", "In practice"],
        rows=[[one.claim, one.source, str(said), practice(one, said)] for one, said in answered],
    )
    return [summary, *others(settings, found)]
