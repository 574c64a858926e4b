"""What the words of a report mean: verdicts, terms and measures, one line each."""

from dataclasses import dataclass
from typing import Literal

from mnemoscope.runs.examination import InterventionName, Verdict
from mnemoscope.runs.measures import MEASURES
from mnemoscope.runs.trial import Outcome

__all__ = ["EFFECTS", "INTERVENTIONS", "MEANINGS", "MEASURES", "OUTCOMES", "TERMS", "TRIAL_TERMS", "Meaning", "Tone"]

Tone = Literal["works", "partly", "idle", "open"]


@dataclass(frozen=True)
class Meaning:
    """What a verdict means, and the two signs that stand for it beside its name."""

    symbol: str
    tone: Tone
    text: str


MEANINGS: dict[Verdict, Meaning] = {
    "load-bearing (sole)": Meaning(
        "●", "works", "What it carries from beyond the local window is needed, and nothing else supplies it."
    ),
    "load-bearing": Meaning(
        "◉",
        "works",
        "Its history is used; the routes are unknown, so nobody can say whether anything else supplies it.",
    ),
    "load-bearing (shared)": Meaning(
        "◕", "works", "It is needed, and other routes carry part of the same work; its share says how much is its own."
    ),
    "saturated": Meaning(
        "◍", "partly", "Used while there is little to hold, and full: accuracy falls as more is to be remembered."
    ),
    "redundant": Meaning(
        "◑", "partly", "Not missed while the other routes work, able to do their work when they do not: a backup."
    ),
    "constant-bias": Meaning(
        "■",
        "partly",
        "Collapsed, and worth exactly one learned vector: keep the vector, the memory adds nothing to it.",
    ),
    "clock": Meaning(
        "◷", "partly", "It tells the time, not the content: a constant for each position in its place does as well."
    ),
    "local-only": Meaning(
        "◔", "partly", "The module is used, its memory is not: the tokens inside the local window are enough for it."
    ),
    "decorative (scale)": Meaning(
        "△", "idle", "Only the size of its output is used: any constant of that size does as well."
    ),
    "decorative": Meaning(
        "○", "idle", "A constant, or nothing at all, in its place costs less than the margin: the model ignores it."
    ),
    "starved": Meaning(
        "▽", "idle", "Not missed, and what it would need is not stored: next to no gradient or writing reaches it."
    ),
    "not-demanded": Meaning(
        "–", "open", "These data can be predicted without distant history, so no memory could show its worth on them."
    ),
    "untrained": Meaning(
        "…", "open", "The model does no better than a constant output: there is nothing to judge yet."
    ),
    "inconclusive": Meaning(
        "?",
        "open",
        "Undecided: an interval lies on both sides of the margin, or a test that decides could not be made.",
    ),
}

TERMS: dict[str, str] = {
    "Best constant": "Loss increase when the site's output is replaced by the single vector that hurts least. What is "
    "lost is what the site adds by reacting to its input; the verdict rests on it.",
    "Best constant of each position": "The same with a vector for each position: what is left is what the site adds "
    "by its content, beyond telling the time.",
    "Zero, mean, resample": "The usual ablations: by nothing, by the average, by another sequence's output. They show "
    "the network what it was never trained on, so they overstate importance; for comparison only.",
    "Random constant, random directions": "A random vector of the output's size; as many random directions taken out "
    "of the output as it has of its own. What they cost is the work of size, not of content.",
    "Gate shut, gate open": "The gate held at 0 or at 1 for every token.",
    "Horizon": "Loss increase when the memory keeps only its last tokens; at the local window this tells memory from "
    "local mixing.",
    "Conditional": "What the memory is worth once everything else, memories and routes, is off; it reveals backups.",
    "Headroom": "Loss increase when every memory and every other long-range route are switched off together: all that "
    "distant history is worth on these data.",
    "Margin ε": "Effects smaller than this count as nothing.",
    "Share": "Shapley share of the headroom: what the site adds, averaged over the orders in which memories and routes "
    "can be switched on.",
    "Necessity, sufficiency": "Best-constant effect over headroom, which never counts for more than what a constant "
    "output costs; the part of the headroom that the site saves when everything else is off.",
    "Probe": "How much better a linear probe predicts the answer from the output than from the site's own input; "
    "shuffled, from outputs of other sequences, it should gain nothing; from those of an untrained copy of the model "
    "it gains what any such network holds, so that only the gain above that counts as stored.",
    "State patching": "The part of the difference between two runs that the state alone carries: restored in a corrupt "
    "run, or destroyed in a clean one. It is exchanged by running the memory on the other run's history, or by writing "
    "into what the model remembers, where a self-test shows that the model goes on rightly from that.",
    "What a verdict rests on": "Effects clearly above or clearly below the margin, at levels that hold for all of them "
    "together (Holm's adjustment), so these intervals are wider than the others; open ones decide nothing.",
    "Brackets": "Bootstrap interval over sequences, at the level that the caption names. A nat is the "
    "natural-logarithm unit of loss.",
}

INTERVENTIONS: dict[InterventionName, str] = {
    "optimal_constant": "best constant",
    "position_constant": "best constant of each position",
    "zero": "zero",
    "mean": "mean",
    "position_mean": "mean of each position",
    "resample": "resample",
    "random_constant": "random constant",
    "random_directions": "random directions",
    "gate_shut": "gate shut",
    "gate_open": "gate open",
    "write_freeze": "no writes in the later half",
}
"""What is put in the place of a part, in the words of tables and figures."""

EFFECTS: dict[str, str] = {
    **INTERVENTIONS,
    "headroom": "headroom",
    "conditional": "everything else off",
    "single_vector": "one vector for all slots",
    "local_horizon": "history cut to the local window",
    "at_lowest_load": "best constant at the lowest load",
}
"""Every effect that a verdict can rest on, in words."""

OUTCOMES: dict[Outcome, Meaning] = {
    "accepted": Meaning(
        "●",
        "works",
        "The memory's effect rose and lies above the margin, the loss is not higher by the margin, and where memory is "
        "demanded the loss fell.",
    ),
    "forced, not useful": Meaning(
        "◑",
        "partly",
        "The memory's effect rose and lies above the margin, but nothing shows that the model is better for it.",
    ),
    "harmful": Meaning("▽", "idle", "The loss rose by more than the margin, whatever the memory does."),
    "no effect": Meaning("○", "idle", "If the memory's effect rose at all, it was by less than the margin."),
    "inconclusive": Meaning("?", "open", "Undecided: the seeds differ too much for their number."),
    "too few seeds": Meaning("…", "open", "Fewer than three seeds are finished in both arms: rows, but no statement."),
}

TRIAL_TERMS: dict[str, str] = {
    "Seed": "One training. Seeds of one recipe can end anywhere between a decorative and a load-bearing memory, so "
    "they are the unit: arms are compared seed by seed, on the same data in the same order.",
    "Effect": "Loss increase when all memories together are replaced by the constants that hurt least.",
    "Share": "Shapley share of the headroom: what the memories add, averaged over the orders in which they and the "
    "other routes can be switched on.",
    "Where demanded": "At the positions whose answer stood beyond the local window, where the task can tell.",
    "Margin ε": "Changes smaller than this count as nothing; the larger one of the two arms' examinations.",
    "p": "Share of all sign patterns of the seeds' differences with a mean at least as far from zero; with n seeds it "
    "cannot be smaller than 2 / 2ⁿ.",
}
