"""The Atlas decision framework as data: 25 conditions on a training, with what is wrong and what to change.

The conditions are those of the guide, read on quantities that can say what the guide reads from them: the gate before
its floor, accuracy on held-out data, utility against a reset memory, effective dimensions of each matrix on its own,
cosines before gradients are cleared, softmax collapse in float32. A row holds only where the evidence it needs is
there, and a verdict of an examination, where there is one, is better evidence than a gate.

Source: r3d91ll/Todd_Atlas, docs/MEMORY_TUNING_GUIDE.md. Levels for "steadily" and "plateau" are ours; see `signs`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from mnemoscope.examination.judgement import symptoms
from mnemoscope.examination.judgement.signs import MOVED, USED, Evidence
from mnemoscope.runs.examination import PrescriptionRecord

GUIDE = "tuning guide of r3d91ll/Todd_Atlas"
OMEGA = 'mnemoscope train RECIPE --layout "attention(window=16), omega({options})" --out OUT'


@dataclass(frozen=True)
class Row:
    """A row of the framework.

    Args:
        number: in the guide's table; one condition with several changes has several rows.
        condition: in words.
        found: the evidence in words where the condition holds, or else nothing.
        diagnosis: what is wrong.
        change: what to try.
        corrected: what is read in place of a measurement that could not say it, or what of the guide did not hold.
        command: tries the change, where one does today; RECIPE and OUT stand for the user's own.
        is_fine: whether nothing is to be changed.
    """

    number: int
    condition: str
    found: Callable[[Evidence], str]
    diagnosis: str
    change: str
    corrected: str = ""
    command: str = ""
    is_fine: bool = False

    def record(self, evidence: Evidence) -> PrescriptionRecord:
        """The row, as it stands in a record."""
        corrected = f"; corrected: {self.corrected}" if self.corrected else ""
        return PrescriptionRecord(
            site="training" if evidence.site is None else evidence.site.name,
            condition=self.condition,
            diagnosis=self.diagnosis,
            change=self.change,
            source=f"{GUIDE}, row {self.number}{corrected}",
            evidence=self.found(evidence),
            command=self.command,
        )


_HELD_OUT = "accuracy on held-out data"
_RAW = "the gate before its floor; floors alone hide a shut gate"
_ANY = float("inf")

FRAMEWORK: tuple[Row, ...] = (
    Row(
        1, "accuracy climbs steadily", symptoms.climbing, "it learns", "keep on, train longer", _HELD_OUT, is_fine=True
    ),
    Row(
        2,
        "accuracy stays at 10 to 12 %, an effective dimension below 10 %",
        symptoms.collapsed,
        "embeddings have collapsed",
        "turn StableMax and orthogonal gradients off",
        "input embedding, output head and hidden states each on their own",
    ),
    Row(
        3,
        "accuracy stays at 10 to 12 %, effective dimensions at least 30 %, the memory is not used",
        symptoms.utility_not_found,
        "the use of the memory was not found: that accuracy is what counting words gives",
        "hold the gate open at 0.5 in retrieval, 10,000 steps of the first phase, retrieval loss times 10",
        "utility first",
    ),
    Row(
        3,
        "accuracy stays at 10 to 12 %, effective dimensions at least 30 %, the memory is not used",
        symptoms.utility_not_found,
        "the use of the memory was not found: that accuracy is what counting words gives",
        "start with step size 0.2 and retention 0.95, and reset the memory for each episode",
        "utility first",
        OMEGA.format(options="initial_step_size=0.2, initial_retention=0.95"),
    ),
    Row(
        4,
        "accuracy stays at 20 to 99 %, the memory is used and of full rank",
        symptoms.at_capacity,
        "capacity",
        "wider keys, or a feature map of higher degree",
        "utility and rank",
        OMEGA.format(options="features='monomial', degree=2"),
    ),
    Row(
        5,
        "raw gate between 30 and 60 %",
        symptoms.gate(0.3, 0.6, lambda e: e.is_used is not False),
        "the gate is healthy",
        "nothing",
        _RAW,
        is_fine=True,
    ),
    Row(
        6,
        "raw gate below 10 %, and no verdict that the memory is used",
        symptoms.gate(0.0, 0.0999, lambda e: e.verdict not in USED),
        "the memory is bypassed",
        "raise the floor under the gate in training, as f + (1 - f) gate: a clamped gate gets no gradient",
        _RAW,
    ),
    Row(
        7,
        "raw gate above 90 %, and no verdict",
        symptoms.gate(0.9001, 1.0, lambda e: e.verdict is None),
        "the model relies on its memory alone",
        "lower the gate's target in storage",
        "the guide gives no change; this one is a proposal",
    ),
    Row(
        8,
        "accuracy stays, raw gate 20 to 60 %, utility or specificity not above noise",
        symptoms.not_learning_when,
        "it does not learn when to use the memory",
        "a longer first phase, a higher floor under the gate in retrieval",
        "utility and specificity",
    ),
    Row(9, "the loss falls", symptoms.loss(-_ANY, -MOVED), "it learns", "nothing", "the unweighted loss", is_fine=True),
    Row(
        10,
        "the loss rises or is not a number, or the memory's norm doubles",
        symptoms.unstable,
        "unstable",
        "lower the learning rate, clip the gradient",
        "norm of the memory and non-finite losses too",
    ),
    Row(
        11,
        "the loss is flat",
        symptoms.loss(-MOVED, MOVED),
        "it stands still",
        "another learning rate, or train longer",
    ),
    Row(
        12,
        "effective dimension falls from 80 to 30 % over 10,000 steps or more, after accuracy rose",
        symptoms.grokking,
        "grokking",
        "go on",
        _HELD_OUT,
        is_fine=True,
    ),
    Row(
        13,
        "effective dimension collapses within 1,500 steps, before accuracy rose",
        symptoms.collapsing,
        "embeddings are collapsing",
        "turn StableMax and orthogonal gradients off",
        _HELD_OUT,
    ),
    Row(
        14,
        "cosine of gradient and weights is 0",
        symptoms.no_signal,
        "starved of signal",
        "orthogonal gradients at strength 0.3 to 0.5, or off",
        "taken before gradients are cleared; about -0.1 to 0 is natural, so that no threshold above 0.3 is reached",
    ),
    Row(
        15,
        "softmax collapse at every position of a task of mathematics",
        symptoms.softmax_collapse,
        "the softmax has collapsed",
        "StableMax or orthogonal gradients, for mathematics only",
        "float32 softmax logits",
    ),
    Row(
        16,
        "the memory hardly changes",
        symptoms.inactive,
        "the memory is inactive",
        "start with a larger step size and a lower retention",
        "the relative update, not the norm",
        OMEGA.format(options="initial_step_size=0.2, initial_retention=0.9"),
    ),
    Row(
        17,
        "it should retain longer",
        symptoms.wanted("retain longer"),
        "retention",
        "start the retention nearer to 1",
        command=OMEGA.format(options="initial_retention=0.999"),
    ),
    Row(
        17,
        "it should respond faster",
        symptoms.wanted("respond faster"),
        "retention",
        "start the retention at 0.9",
        command=OMEGA.format(options="initial_retention=0.9"),
    ),
    Row(
        17,
        "it should learn faster",
        symptoms.wanted("learn faster"),
        "step size",
        "start with a larger step size",
        command=OMEGA.format(options="initial_step_size=0.2"),
    ),
    Row(
        17,
        "it should be more expressive",
        symptoms.wanted("more expressive"),
        "feature map",
        "a feature map of higher degree, which is harder to train",
        command=OMEGA.format(options="features='monomial', degree=2"),
    ),
    Row(18, "it needs more content", symptoms.wanted("more content"), "storage", "10 storage steps in an episode"),
    Row(
        18,
        "it needs more practice",
        symptoms.wanted("more practice"),
        "retrieval",
        "more retrieval steps in an episode",
    ),
    Row(18, "episodes should be apart", symptoms.wanted("isolation"), "reset", "reset the memory for each episode"),
    Row(19, "the task is too hard", symptoms.wanted("easier task"), "too much at once", "mask 8 words in a sequence"),
    Row(20, "retrieval is ignored", symptoms.ignored, "retrieval is ignored", "retrieval loss times 10", "utility"),
    Row(
        20,
        "natural use should be checked",
        symptoms.wanted("check natural use"),
        "forced use says little",
        "retrieval loss times 2",
        "utility",
    ),
    Row(
        21,
        "a language task",
        symptoms.task("language"),
        "settings for language",
        "no weight decay, learning rate 3e-4, StableMax and orthogonal gradients off",
    ),
    Row(22, "after grokking", symptoms.grokked, "it generalises", "weight decay 0.01", _HELD_OUT),
    Row(
        23,
        "a task of mathematics",
        symptoms.task("mathematics"),
        "settings for mathematics",
        "weight decay 0.1, StableMax, orthogonal gradients at strength 1 with the norm restored",
        "strength 0.5 failed at 300 epochs",
    ),
    Row(
        24,
        "accuracy stays, before step 13,000",
        symptoms.early,
        "too early to say",
        "patience: one small change at a time, and finish runs",
    ),
    Row(
        25,
        "several changes are proposed",
        symptoms.several,
        "several suspects at once",
        "try each change alone and both together",
        "all four combinations, so that they can be told apart",
    ),
)
"""In the guide's order. Its advice on orthogonal gradients contradicts itself, so they are off unless a row says so."""


def advise(evidence: Evidence, *, fine: bool = True) -> list[PrescriptionRecord]:
    """The rows that hold, in order.

    Args:
        evidence: what is known.
        fine: also give rows that ask for no change.
    """
    rows = [row for row in FRAMEWORK if row.found(evidence)]
    evidence = replace(evidence, n_suspects=len({row.change for row in rows if not row.is_fine}))
    return [row.record(evidence) for row in FRAMEWORK if row.found(evidence) and (fine or not row.is_fine)]
