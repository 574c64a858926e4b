"""The pages of the findings: one for each claim, written from the results of its study, and a list of them all.

FOLDER/index.md             every claim with its answer
FOLDER/SLUG.md              the claim with its source, every seed of what was measured, what to do about it
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mnemoscope.experiments.gpu_hours import DEVICE, estimates, in_words, together
from mnemoscope.experiments.reproducing import Result, Size, finished, spelt, table
from mnemoscope.experiments.survey.frame import Finding, Study, Verdict, practice, verdict
from mnemoscope.runs.atomic import write_text

SIZE: Size = "small"


@dataclass(frozen=True, kw_only=True)
class Heading:
    """Of a list of findings.

    Args:
        name: that `mnemoscope reproduce` knows all its studies by.
        title: of the list.
        about: what the claims are.
        folder: of the pages, within a folder of results or of documentation.
    """

    name: str = "survey"
    title: str = "What holds of what is said about ignored memories"
    about: str = "Claims of the literature, each with a test that two CPU cores can do in minutes."
    folder: str = "findings"


SURVEY = Heading()
INDEX = "index.md"
HEADINGS: dict[str, str] = {
    "holds": "Holds",
    "does not hold": "Does not hold",
    "holds only when": "Holds only when",
    "undecided": "Undecided",
    "not testable at this size": "Not testable at this size",
    "not measured yet": "Not measured yet",
}


def write_findings(
    studies: Sequence[Study], n_seeds: int, out: str | Path, folder: str | Path, heading: Heading = SURVEY
) -> list[Path]:
    """Write a page for every finding, from what is finished, and the list; nothing is measured.

    Args:
        studies: whose findings.
        n_seeds: that were wanted of each.
        out: folder of all experiments.
        folder: of the pages; made if absent.
        heading: of the list.

    Returns:
        the pages, the list first.

    Raises:
        ValueError: results of other settings, or damaged ones.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows, written = list[str](), [folder / INDEX]
    for study in studies:
        found = finished(study.experiment, n_seeds, SIZE, out)
        for finding in study.findings:
            said = verdict(finding, study.experiment.claims, found)
            write_text(folder / f"{finding.slug}.md", page(study, finding, found, n_seeds))
            written.append(folder / f"{finding.slug}.md")
            rows.append(
                f"| [{_cell(finding.claim)}]({finding.slug}.md) | {_cell(str(said))} | `{study.experiment.name}` | "
                f"{len(found)} |"
            )
    write_text(folder / INDEX, _index(rows, n_seeds, heading))
    return written


def page(study: Study, finding: Finding, found: Sequence[Result], n_seeds: int) -> str:
    """The page of one claim, as Markdown."""
    experiment = study.experiment
    said = verdict(finding, experiment.claims, found)
    parts = [
        f"# {finding.claim}",
        f"Source: {finding.source}.",
        f"**{HEADINGS[said.answer]}{_conditions(said)}.** {_basis(finding, said, found, n_seeds)}",
        "## What was measured",
        f"{experiment.what[:1].upper()}{experiment.what[1:]}",
        f"```bash\nmnemoscope reproduce {experiment.name} --seeds {n_seeds}\n```",
        *([_measured(study, finding, found)] if found else []),
        "## What to do",
        practice(finding, said),
        "## What this leaves open",
        finding.elsewhere,
        *([_cost(study)] if said.answer == "not testable at this size" else []),
    ]
    return "\n\n".join(parts) + "\n"


def _index(rows: Sequence[str], n_seeds: int, heading: Heading) -> str:
    """The list of all findings."""
    head = (
        f"# {heading.title}\n\n{heading.about} An answer is that of the sizes, tasks and seeds of its page and of "
        "nothing else; negative answers stand here like others.\n\n"
        f"```bash\nmnemoscope reproduce {heading.name} --seeds {n_seeds}\n"
        f"mnemoscope reproduce {heading.name} --seeds {n_seeds} --findings docs/{heading.folder}\n```\n\n"
        "| claim | answer | study | seeds |\n| --- | --- | --- | --- |\n"
    )
    return head + "\n".join(rows) + "\n"


def _conditions(said: Verdict) -> str:
    return f": {'; '.join(said.when)}" if said.when and said.answer == "holds only when" else ""


def _basis(finding: Finding, said: Verdict, found: Sequence[Result], n_seeds: int) -> str:
    """On how many seeds the answer rests, and what was missing where there is none."""
    if said.answer == "not measured yet":
        return "The command below measures it."
    seeds = f"{len(found)} {'seed' if len(found) == 1 else 'seeds'}"
    seeds += "" if len(found) >= n_seeds else f" of the {n_seeds} that were wanted"
    if said.answer == "not testable at this size":
        lacking = f"{len(found) - said.able} of " if said.able else ""
        return f"In {lacking}{seeds}, what the claim presupposes did not come about: see the rows marked *presupposed*."
    if said.able < len(found):
        seeds += f"; in {len(found) - said.able} of them what the claim presupposes did not come about"
    able = f"the {said.able} {'seed' if said.able == 1 else 'seeds'}"
    decided = (
        f"{words}, in {said.within[name]} of {able} that could decide" for name, words in finding.decided_by.items()
    )
    return f"{seeds}. What decides: {'; '.join(decided)}."


def _measured(study: Study, finding: Finding, found: Sequence[Result]) -> str:
    """Rows that decide and that are presupposed, then all others; and how it was trained."""
    experiment = study.experiment
    roles = dict.fromkeys(finding.requires, "*presupposed*: ") | dict.fromkeys(finding.decided_by, "**decides**: ")
    claims = sorted(experiment.claims, key=lambda claim: claim.figure not in roles)
    head, *rows = table(claims, found)
    rows = [[f"{roles.get(claim.figure, '')}{row[0]}", *row[1:]] for claim, row in zip(claims, rows, strict=True)]
    lines = [_line(head), _line(["---"] * len(head)), *map(_line, rows)]
    settings = "; ".join(f"{name}: {spelt(value)}" for name, value in found[0].settings.items())
    took = sum(result.seconds for result in found) / 60
    under = f"Settings: {settings}. {took:.1f} minutes on one thread for all seeds, shared trainings counted once."
    return "\n".join(lines) + f"\n\n{under}"


def _cost(study: Study) -> str:
    """What the published size of the study would take."""
    experiment = study.experiment
    if "paper" not in experiment.sizes or experiment.trainings is None:
        return ""
    hours = in_words(together(list(estimates(experiment, "paper"))))
    return (
        f"`mnemoscope reproduce {experiment.name} --size paper` is that test: {hours} a seed on one {DEVICE.name}, "
        "estimated by the planner and not measured."
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
