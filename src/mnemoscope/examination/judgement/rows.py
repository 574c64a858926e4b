"""The Atlas decision framework as data: 25 conditions on a training, with what is wrong and what to change.

The conditions are those of the guide, read on quantities that can say what the guide reads from them: the gate before
its floor, accuracy on held-out data, utility against a reset memory, effective dimensions of each matrix on its own,
cosines before gradients are cleared, softmax collapse in float32.

Source: r3d91ll/Todd_Atlas, docs/MEMORY_TUNING_GUIDE.md. Its advice on orthogonal gradients contradicts itself, so they
are off unless a row says so.
"""

from mnemoscope.examination.judgement import symptoms
from mnemoscope.examination.judgement.row import ISOLATION, PATIENCE, Row
from mnemoscope.examination.judgement.signs import MOVED, Aim

_HELD_OUT = "accuracy on held-out data"
_RAW = "the gate before its floor; floors alone hide a shut gate"
_ANY = float("inf")

_OMEGA = 'mnemoscope train RECIPE --layout "attention(window=16), omega({})" --out OUT'
# The guide's retention acts once a chunk of 16 tokens, and its step is that of a chunk's mean error.
_PER_CHUNK = "granularity='chunk', window=1, {}"
_CHUNK_STEP = "initial_step_size=0.0125"
_STEP = ("*.initial_step_size={twice_step_size}",)
_HIGHER = (
    "*.features=sketch",
    "*.degree=3",
    "*.sketch_width={four_widths}",
    "*.learned_coefficients=false",
)
_PLAIN = (
    "train.loss=cross_entropy",
    "train.orthogonal_gradient=0",
    "train.rescale_gradient=false",
    "train.orthogonal_gradient_of=matrices",
)
_ORTHOGONAL = ("train.orthogonal_gradient=1", "train.rescale_gradient=true")
_HIGHER_FLOORS = (
    "gate_floor.unit=parts",
    "gate_floor.floors=[0.5, 0.3, 0.1]",
    "gate_floor.switches=[0.1, 0.2]",
    "gate_floor.floor_mode=affine",
)
# The guide has a longer first phase too, whose floor of 0.3 is below these and would change nothing.
_FLOORS = ("gate_floor.retrieval_floor=0.5",)
_FLOORED = "gate_floor(retrieval_floor=0.5)"
_SKETCHED = "features='sketch', degree=3, sketch_width=256"


def _wish(number: int, aim: Aim, condition: str, diagnosis: str, change: str, *sets: str, command: str = "") -> Row:
    return Row(number, condition, symptoms.wanted(aim), diagnosis, change, sets=sets, command=command, aim=aim)


FRAMEWORK: tuple[Row, ...] = (
    Row(
        1,
        "accuracy climbs steadily",
        symptoms.climbing,
        "it learns",
        "keep on, train longer",
        _HELD_OUT,
        ("train.steps={twice_steps}",),
        is_fine=True,
    ),
    Row(
        2,
        "accuracy stays at 12 % or less, an effective dimension below 10 %",
        symptoms.collapsed,
        "embedding, head or hidden states have collapsed",
        "turn StableMax and orthogonal gradients off",
        "input embedding, output head and hidden states each on their own",
        _PLAIN,
    ),
    Row(
        3,
        "accuracy stays at 12 % or less, effective dimensions at least 30 %, the memory is not used",
        symptoms.utility_not_found,
        "the use of the memory was not found: that accuracy is what counting words gives",
        "hold the gate open at 0.5 in retrieval, retrieval loss times 10",
        "utility first",
        (*_FLOORS, "episodic.retrieval_weight=10"),
        f'mnemoscope train RECIPE --remedies "{_FLOORED}" --lesson "episodic(retrieval_weight=10)" --out OUT',
    ),
    Row(
        3,
        "accuracy stays at 12 % or less, effective dimensions at least 30 %, the memory is not used",
        symptoms.utility_not_found,
        "the use of the memory was not found: that accuracy is what counting words gives",
        "start with twice the step size and five times the forgetting (the guide: 0.2, and 0.95 a chunk), and reset "
        "the memory for each episode",
        "utility first",
        (*_STEP, "*.initial_retention={lower_retention}", "episodic.between=reset"),
        _OMEGA.format(_PER_CHUNK.format(f"{_CHUNK_STEP}, initial_retention=0.95")),
    ),
    Row(
        4,
        "accuracy stays at 20 to 99 %, the memory is used and of full rank",
        symptoms.at_capacity,
        "capacity",
        "keys and values of twice the width",
        "utility and rank",
        ("*.head_width={twice_width}",),
        _OMEGA.format("head_width=128"),
    ),
    Row(
        4,
        "accuracy stays at 20 to 99 %, the memory is used and of full rank",
        symptoms.at_capacity,
        "capacity",
        "a feature map of higher degree",
        "utility and rank",
        _HIGHER,
        _OMEGA.format(_SKETCHED),
    ),
    Row(
        5,
        "raw gate between 30 and 60 %",
        symptoms.gate(0.3, 0.6, symptoms.unused),
        "the gate is healthy",
        "nothing",
        _RAW,
        is_fine=True,
    ),
    Row(
        6,
        "raw gate below 10 %, and no verdict that the memory is used",
        symptoms.gate(0.0, 0.0999, symptoms.known_used),
        "the memory is bypassed",
        "raise the floor under the gate in training, as f + (1 - f) gate: a clamped gate gets no gradient",
        _RAW,
        _HIGHER_FLOORS,
        'mnemoscope trial RECIPE --remedies "gate_floor(floors=(0.5, 0.3, 0.1), switches=(0.1, 0.2))"',
    ),
    Row(
        7,
        "raw gate above 90 %, and no verdict",
        symptoms.gate(0.9001, 1.0, symptoms.judged_already),
        "the model relies on its memory alone",
        "lower the gate's target in storage",
        "the guide gives no change; this one is a proposal",
        ("gate_floor.storage_floor=0.5",),
    ),
    Row(
        8,
        "accuracy stays, raw gate 20 to 60 %, utility or specificity not above noise",
        symptoms.not_learning_when,
        "it does not learn when to use the memory",
        "a higher floor under the gate in retrieval",
        "utility and specificity",
        _FLOORS,
        f'mnemoscope trial RECIPE --remedies "{_FLOORED}"',
    ),
    Row(9, "the loss falls", symptoms.loss(-_ANY, -MOVED), "it learns", "nothing", "the unweighted loss", is_fine=True),
    Row(
        10,
        "the loss rises or is not a number, or the memory's norm doubles",
        symptoms.unstable,
        "unstable",
        "lower the learning rate, clip the gradient",
        "norm of the memory and non-finite losses too",
        ("train.learning_rate={half_rate}", "train.grad_clip=1"),
    ),
    Row(
        11,
        "the loss is flat",
        symptoms.loss(-MOVED, MOVED),
        "it stands still",
        "train longer, or with another learning rate",
        sets=("train.steps={twice_steps}",),
    ),
    Row(
        12,
        "effective dimension falls from 80 to 30 % over 10,000 steps or more, after accuracy rose",
        symptoms.grokking,
        "grokking",
        "go on",
        _HELD_OUT,
        ("train.steps={twice_steps}",),
        is_fine=True,
    ),
    Row(
        13,
        "effective dimension collapses within 1,500 steps, before accuracy rose",
        symptoms.collapsing,
        "the embedding or the head is collapsing",
        "turn StableMax and orthogonal gradients off",
        _HELD_OUT,
        _PLAIN,
    ),
    Row(
        14,
        "cosine of gradient and weights is 0",
        symptoms.no_signal,
        "starved of signal",
        "orthogonal gradients at strength 0.3 to 0.5, or off",
        "of the descent, taken before gradients are cleared; about 0 is natural, so that no threshold above 0.3 is "
        "reached: what counts is that a tenth or less remains of what there was before a projection",
        _PLAIN[1:],
    ),
    Row(
        15,
        "softmax collapse at every position of a task of mathematics",
        symptoms.softmax_collapse,
        "the softmax has collapsed",
        "StableMax or orthogonal gradients, for mathematics only",
        "float32 softmax logits",
        _ORTHOGONAL,
    ),
    Row(
        16,
        "the memory hardly changes",
        symptoms.inactive,
        "the memory is inactive",
        "start with a larger step size and a lower retention",
        "the relative update, not the norm",
        (*_STEP, "*.initial_retention={lowest_retention}"),
        _OMEGA.format(_PER_CHUNK.format(f"{_CHUNK_STEP}, initial_retention=0.9")),
    ),
    _wish(
        17,
        "retain longer",
        "it should retain longer",
        "retention",
        "start the retention nearer to 1",
        "*.initial_retention={higher_retention}",
        command=_OMEGA.format(_PER_CHUNK.format("initial_retention=0.999")),
    ),
    _wish(
        17,
        "respond faster",
        "it should respond faster",
        "retention",
        "start with ten times the forgetting (the guide: a retention of 0.9 a chunk)",
        "*.initial_retention={lowest_retention}",
        command=_OMEGA.format(_PER_CHUNK.format("initial_retention=0.9")),
    ),
    _wish(
        17,
        "learn faster",
        "it should learn faster",
        "step size",
        "start with a larger step size",
        *_STEP,
        command=_OMEGA.format(_PER_CHUNK.format(_CHUNK_STEP)),
    ),
    _wish(
        17,
        "more expressive",
        "it should be more expressive",
        "feature map",
        "a feature map of higher degree, which is harder to train",
        *_HIGHER,
        command=_OMEGA.format(_SKETCHED),
    ),
    _wish(
        18,
        "more content",
        "it needs more content",
        "storage",
        "twice the texts stored in an episode (the guide: 10 for 5)",
        "masked_words.n_storage={twice_storage}",
    ),
    _wish(
        18,
        "more practice",
        "it needs more practice",
        "retrieval",
        "twice the retrievals in an episode",
        "masked_words.n_retrieval={twice_retrieval}",
    ),
    _wish(
        18,
        "isolation",
        "episodes should be apart",
        "reset",
        "reset the memory for each episode",
        "episodic.between=reset",
    ),
    _wish(
        19,
        "easier task",
        "the task is too hard",
        "too much at once",
        "mask fewer words in a sequence (the guide: 8 for 13)",
        "masked_words.n_masks={fewer_masks}",
    ),
    Row(
        20,
        "retrieval is ignored",
        symptoms.ignored,
        "retrieval is ignored",
        "retrieval loss times 10",
        "utility",
        ("episodic.retrieval_weight=10",),
        'mnemoscope train RECIPE --lesson "episodic(retrieval_weight=10)" --out OUT',
    ),
    _wish(
        20,
        "check natural use",
        "natural use should be checked",
        "forced use says little",
        "retrieval loss times 2",
        "episodic.retrieval_weight=2",
        command='mnemoscope train RECIPE --lesson "episodic(retrieval_weight=2)" --out OUT',
    ),
    Row(
        21,
        "a language task",
        symptoms.unlike_language,
        "settings for language",
        "no weight decay, learning rate 3e-4, StableMax and orthogonal gradients off",
        sets=("train.weight_decay=0", "train.learning_rate=3e-4", *_PLAIN),
    ),
    Row(
        22,
        "after grokking",
        symptoms.grokked,
        "it generalises",
        "weight decay 0.01",
        _HELD_OUT,
        ("train.weight_decay=0.01",),
    ),
    Row(
        23,
        "a task of mathematics, with none of what makes it generalise",
        symptoms.unlike_mathematics,
        "settings for mathematics",
        "weight decay 0.1, StableMax, orthogonal gradients at strength 1 with the norm restored",
        "strength 0.5 alone failed at 300 epochs; with the other two it generalises too",
        ("train.weight_decay=0.1", "train.loss=stablemax", *_ORTHOGONAL),
    ),
    Row(
        PATIENCE,
        "accuracy stays, before step 13,000",
        symptoms.early,
        "too early to say",
        "patience: one small change at a time, and finish runs",
        sets=("train.steps=50000",),
    ),
    Row(
        ISOLATION,
        "several changes are proposed, or StableMax and orthogonal gradients are on together",
        symptoms.several,
        "several suspects at once",
        "try each change alone and both together",
        "all four combinations, so that they can be told apart",
    ),
)
"""In the guide's order."""
