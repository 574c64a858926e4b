"""Every parameter of the Atlas tuning guide and of its project's YAML files: what it takes, and what it does here.

    model         sizes, memory, attention             -> the layout of the stack
    training      optimiser, schedule, batch           -> TrainConfig
    episodic      phases, floors, weights, masks       -> the lesson, the gate floor and the task
    monitoring    StableMax, PerpGrad, intervals       -> TrainConfig
    data          text                                 -> the task

    KEYS            what means something here, the guide's parameters first of all
    OTHER_NAMES     the same under the names of that project's trainer of next tokens
    SURROUNDINGS    alerts, dashboards, folders, other stages: known, and nothing here
    ANOTHER         what only another experiment of that project has; refused

Of `KEYS` each has two lines: what it does here, and what becomes of it in the compat mode, which does as the public
code does.

Source: docs/MEMORY_TUNING_GUIDE.md and configs/ of r3d91ll/Todd_Atlas; what its code makes of each key: the atlas
specification, 1.4.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Value: TypeAlias = int | float | bool | str

Takes: TypeAlias = Literal["count", "steps", "open share", "floor", "share", "positive", "amount", "switch", "text"]

RULES: Mapping[Takes, str] = {
    "count": "a whole number of at least 1",
    "steps": "a whole number of at least 0",
    "open share": "between 0 and 1, both excluded",
    "floor": "in [0, 1)",
    "share": "in [0, 1]",
    "positive": "positive and finite",
    "amount": "at least 0 and finite",
    "switch": "true or false",
    "text": "text",
}


@dataclass(frozen=True, kw_only=True)
class Key:
    """One parameter.

    Args:
        section: where the project's files have it; the guide's shorter snippets are taken too.
        takes: which values.
        guide: the guide's value, or that of the project's files; None for what only a file can say.
        here: what it does here.
        compat: what it does in the compat mode; empty for the same.
        needed: the only value that means anything here; None for any.
    """

    section: str
    takes: Takes
    guide: Value | None
    here: str
    compat: str = ""
    needed: Value | None = None


def _start(guide: float, here: str, compat: str) -> Key:
    """Where a gate of the memory starts."""
    stays = f"{compat}; its head gets no gradient and stays there"
    return Key(section="model", takes="open share", guide=guide, here=f"{here}; trained", compat=stays)


_MODE_FLOORS = "storage_gate_target or retrieval_gate_floor"
"""A step does nothing but store and retrieve, and the higher floor acts."""


def _phase_floor(guide: float, phase: str) -> Key:
    return Key(
        section="episodic",
        takes="floor",
        guide=guide,
        here=f"floor of the raw gate in the {phase} phase, where it is above {_MODE_FLOORS}",
        compat="never applied: the public code trains in its storage and retrieval modes only",
    )


def _phase_steps(guide: int, here: str) -> Key:
    unused = "changes only floors that are never applied"
    acts = f"{here}; its floor acts where it is above {_MODE_FLOORS}"
    return Key(section="episodic", takes="count", guide=guide, here=acts, compat=unused)


def _mode_floor(guide: float, doing: str) -> Key:
    fixed = f"not read by the public code, which has {guide} whatever is said"
    return Key(
        section="episodic", takes="floor", guide=guide, here=f"least floor while an episode {doing}", compat=fixed
    )


KEYS: Mapping[str, Key] = {
    "d_model": Key(section="model", takes="count", guide=256, here="width of the residual stream"),
    "n_layers": Key(section="model", takes="count", guide=4, here="blocks, a memory beside attention in each"),
    "n_heads": Key(section="model", takes="count", guide=4, here="heads of the attention"),
    "d_ff": Key(section="model", takes="count", guide=1024, here="width of the feed-forward part"),
    "vocab_size": Key(
        section="model",
        takes="count",
        guide=32_000,
        here="tokens: the most frequent words of the text, or of its encoding with tokenizer: bpe",
    ),
    "max_seq_len": Key(
        section="model",
        takes="count",
        guide=512,
        here="words of one text; no table of positions, attention rotates by age",
    ),
    "d_key": Key(
        section="model",
        takes="count",
        guide=256,
        here="width of the memory's one head: keys and queries",
        compat="width of keys; the public code asserts that it is d_model",
    ),
    "d_value": Key(
        section="model",
        takes="count",
        guide=256,
        here="width of values, which must be that of keys",
        compat="width of values; the public code asserts that it is d_model",
    ),
    "poly_degree": Key(
        section="model",
        takes="count",
        guide=2,
        here="degree of the elementwise feature map, of rank degree * d_key + 1 (other maps: omega(features=...))",
        compat="degree of the elementwise feature map, of rank degree * d_key + 1",
    ),
    "context_window": Key(
        section="model",
        takes="count",
        guide=16,
        here="tokens of a chunk, all in one objective: chunk_tokens with granularity='chunk'",
        compat="tokens of a chunk, all in one objective",
    ),
    "window_size": Key(section="model", takes="count", guide=128, here="tokens the attention looks at"),
    "use_omega": Key(
        section="model",
        takes="switch",
        guide=None,
        here="the memory is the guide's; that project has another, which is not built here",
        needed=True,
    ),
    "init_alpha": _start(0.99, "where the retention starts", "where the retention starts"),
    "init_theta": _start(0.9, "where the momentum starts (the guide calls it a gate)", "where the momentum starts"),
    "init_eta": _start(
        0.1,
        "where the step on a chunk's mean error starts: omega's step size is this over context_window",
        "half of it is where the step starts",
    ),
    "max_steps": Key(
        section="training",
        takes="count",
        guide=100_000,
        here="steps, each of a whole episode (there of gradient_accumulation_steps of its batches)",
    ),
    "learning_rate": Key(section="training", takes="positive", guide=3e-4, here="the largest, reached after warm-up"),
    "weight_decay": Key(section="training", takes="amount", guide=0.0, here="AdamW's, on weight matrices only"),
    "warmup_steps": Key(section="training", takes="steps", guide=500, here="steps of the rise of the learning rate"),
    "grad_clip": Key(section="training", takes="positive", guide=1.0, here="largest norm of the whole gradient"),
    "batch_size": Key(section="training", takes="count", guide=32, here="episodes of a step, side by side"),
    "gradient_accumulation_steps": Key(
        section="training",
        takes="count",
        guide=2,
        here="nothing: a step has all batches of its episode, so that there is nothing to accumulate",
    ),
    "dtype": Key(section="training", takes="text", guide="float32", here="bfloat16 is precision='bf16-mixed'"),
    "log_interval": Key(section="training", takes="count", guide=50, here="steps between rows of metrics"),
    "checkpoint_interval": Key(section="training", takes="count", guide=1000, here="steps between checkpoints"),
    "enabled": Key(section="episodic", takes="switch", guide=True, here="the lesson is episodic", needed=True),
    "use_masked_retrieval": Key(
        section="episodic", takes="switch", guide=True, here="retrieval asks for masked words", needed=True
    ),
    "phase1_gate_floor": _phase_floor(0.30, "first"),
    "phase2_gate_floor": _phase_floor(0.10, "second"),
    "phase3_gate_floor": _phase_floor(0.05, "last"),
    "phase1_steps": _phase_steps(3000, "steps of the first phase"),
    "phase2_steps": _phase_steps(4000, "steps of the second phase, after those of the first"),
    "storage_gate_target": _mode_floor(0.80, "stores"),
    "retrieval_gate_floor": _mode_floor(0.30, "retrieves"),
    "storage_samples": Key(section="episodic", takes="count", guide=5, here="texts that an episode stores"),
    "retrieval_samples": Key(
        section="episodic",
        takes="count",
        guide=5,
        here="masked copies that it asks about, in shuffled rounds",
        compat="masked copies that it asks about, in the order of storage",
    ),
    "reset_memory_between_episodes": Key(
        section="episodic", takes="switch", guide=False, here="whether each episode begins with an empty memory"
    ),
    "num_masks": Key(
        section="episodic", takes="count", guide=13, here="words masked in a copy", compat="words masked in a copy"
    ),
    "retrieval_loss_weight": Key(
        section="episodic",
        takes="positive",
        guide=5.0,
        here="multiplies the loss of the answers; logged with and without",
    ),
    "storage_loss_weight": Key(
        section="episodic",
        takes="amount",
        guide=1.0,
        here="multiplies the loss of the next tokens in storage; logged with and without",
    ),
    "use_stablemax": Key(
        section="monitoring.stability", takes="switch", guide=False, here="StableMax in place of the softmax's loss"
    ),
    "use_orthogonal_grad": Key(
        section="monitoring.stability",
        takes="switch",
        guide=False,
        here="take out the part of each matrix's gradient along the matrix",
        compat="take out the part of every tensor's gradient along the tensor",
    ),
    "orthogonal_grad_strength": Key(
        section="monitoring.stability",
        takes="share",
        guide=0.0,
        here="how much of that part, where use_orthogonal_grad is on; 1 where that is on and nothing is said",
    ),
    "metrics_interval": Key(
        section="monitoring.grokking", takes="count", guide=500, here="steps between evaluations and metrics"
    ),
    "dataset_path": Key(
        section="data",
        takes="text",
        guide=None,
        here="the text: a UTF-8 file or a folder of them, or 'prose' or 'code'",
    ),
    "tokenizer": Key(
        section="data",
        takes="text",
        guide=None,
        here="'bpe': vocab_size tokens of byte-pair encoding, learned from the text's training split; any other name "
        "is not read, and the tokens are words of the text",
    ),
}
"""In the order of the guide's files."""

PUBLIC_DEFAULTS: Mapping[str, Value] = {
    "num_masks": 1,
    "use_stablemax": True,
    "use_orthogonal_grad": True,
    "orthogonal_grad_strength": 1.0,
}
"""What the public code takes where a file says nothing, and the guide's value is another."""

OTHER_NAMES: Mapping[str, str] = {
    "training.log_every": "log_interval",
    "training.save_every": "checkpoint_interval",
    "training.val_every": "metrics_interval",
    "training.eval_interval": "metrics_interval",
    "training.grad_accum_steps": "gradient_accumulation_steps",
    "data.data_dir": "dataset_path",
}
"""Keys of `KEYS` as other files of the project have them, with their section."""

_OWN_METRICS = "a run has its own metrics.jsonl"
_WATCHED = "mnemoscope train --watch warns"
_JUDGES_NOTHING = "nothing is stopped or judged by it"
_IN_PROCESS = "batches are drawn in the training's process"
_ONE_STAGE = "one stage; training.max_steps says how long"
_OWN_CHUNK = "model.context_window is the chunk, from the first step to the last"
_NO_SYNTHETIC = "no random tokens; dataset_path or --corpus names the text"

SURROUNDINGS: Mapping[str, str] = {
    "model.dropout": "no dropout, whatever is said",
    "training.metrics_path": _OWN_METRICS,
    "training.checkpoint_dir": "a run has its own checkpoints",
    "training.device": "say --device when you train",
    "training.compile_model": "not compiled",
    "training.use_ddp": "start several processes with torchrun",
    "training.betas": "AdamW's are 0.9 and 0.95; --set train.beta1 and train.beta2 change them",
    "training.seq_len": "model.max_seq_len says it",
    "training.effective_batch_tokens": "training.batch_size says it",
    "training.use_tnt": _ONE_STAGE,
    "training.stage1_steps": _ONE_STAGE,
    "training.stage2_steps": _ONE_STAGE,
    "training.stage1_chunk_size": _OWN_CHUNK,
    "training.stage2_chunk_size": _OWN_CHUNK,
    "training.val_patience": _JUDGES_NOTHING,
    "training.memory_reset_every": "episodic.reset_memory_between_episodes says it",
    "curriculum": "one stage: masked words in episodes",
    "early_stopping": _JUDGES_NOTHING,
    "episodic.mask_token_id": "the task has a token of its own for the mask",
    "episodic.pad_token_id": "texts are windows of one length, and nothing is padded",
    "monitoring.dashboard_enabled": "mnemoscope serve shows runs",
    "monitoring.dashboard_port": "mnemoscope serve shows runs",
    "monitoring.stream_path": _OWN_METRICS,
    "monitoring.flush_interval": "metrics are written as they come",
    "monitoring.alerts": _WATCHED,
    "monitoring.telegram": _WATCHED,
    "monitoring.grokking.enabled": "always measured",
    "monitoring.grokking.track_embeddings": "always measured",
    "monitoring.grokking.track_memory_matrices": "measured where a memory after every token fits",
    "monitoring.grokking.track_hidden_states": "always measured",
    "monitoring.grokking.fourier_concentration_target": _JUDGES_NOTHING,
    "monitoring.grokking.circular_fit_target": _JUDGES_NOTHING,
    "monitoring.grokking.effective_dim_ratio_target": _JUDGES_NOTHING,
    "monitoring.grokking.min_gate_mean": "the phase of the training has a threshold of its own, of the raw gate",
    "monitoring.grokking.min_retrieval_accuracy": "the phase of the training has thresholds of its own",
    "monitoring.stability.enabled": "always measured",
    "monitoring.stability.sc_threshold": "the metric has a threshold of its own",
    "monitoring.stability.nlm_cosine_threshold": "the cosine is logged as it is, and nothing is judged by it",
    "data.max_seq_len": "model.max_seq_len says it",
    "data.num_workers": _IN_PROCESS,
    "data.prefetch_factor": _IN_PROCESS,
    "data.pin_memory": _IN_PROCESS,
    "data.categories": "say the folder in dataset_path",
    "data.tokenizer_path": "not read; tokens are words of the text, or its encoding with tokenizer: bpe",
    "data.val_split": "a tenth of the text is held out, half to choose by and half to test with",
    "data.use_synthetic": _NO_SYNTHETIC,
    "data.synthetic_vocab_size": _NO_SYNTHETIC,
    "data.synthetic_seq_len": _NO_SYNTHETIC,
    "kakeya": "another study's",
    "success_criteria": _JUDGES_NOTHING,
    "validation_criteria": _JUDGES_NOTHING,
    "hardware": "mnemoscope plan estimates; say --device when you train",
    "output": "say --out when you train",
    "alerts": _WATCHED,
    "test_alerts": _WATCHED,
}
"""What does nothing here, with what stands in its place; a name covers all that is below it."""

_OLDER = (
    "of an older memory of that project, which is not built here; leave out momentum_beta, memory_lr_init, "
    "learn_memory_lr, retention_local_init, retention_global_init and adaptive_retention to have the guide's"
)

ANOTHER: Mapping[str, str] = {
    "task": "of another experiment, arithmetic modulo a prime, which has no words to mask: `mnemoscope reproduce "
    "stablemax-grokking`; leave it out to have masked words of a text",
    "model.momentum_beta": _OLDER,
    "model.memory_lr_init": _OLDER,
    "model.learn_memory_lr": _OLDER,
    "model.retention_local_init": _OLDER,
    "model.retention_global_init": _OLDER,
    "model.adaptive_retention": _OLDER,
}
"""What makes a file one of another experiment, and why it is refused; a name covers all that is below it."""

TWO_STAGES = "training.use_tnt", "training.stage1_steps", "training.stage2_steps"
"""Of these any says that a file is of that project's trainer of next tokens."""


def require_value(where: str, key: str, value: object) -> Value:
    """The value as its key takes it.

    Raises:
        ValueError: another type, out of its range, or one that means nothing here.
    """
    entry = KEYS[key]
    taken = _taken(entry.takes, value)
    example = "" if entry.guide is None else f"; the guide has {shown(entry.guide)}"
    if taken is None:
        raise ValueError(f"{where}: must be {RULES[entry.takes]}, got {value!r}{example}")
    if entry.needed is not None and taken != entry.needed:
        raise ValueError(f"{where}: must be {shown(entry.needed)} here ({entry.here}), got {value!r}; leave it out")
    return taken


_FITS: Mapping[Takes, Callable[[float], bool]] = {
    "count": lambda number: number == int(number) >= 1,
    "steps": lambda number: number == int(number) >= 0,
    "open share": lambda number: 0 < number < 1,
    "floor": lambda number: 0 <= number < 1,
    "share": lambda number: 0 <= number <= 1,
    "positive": lambda number: number > 0,
    "amount": lambda number: number >= 0,
}


def _taken(takes: Takes, value: object) -> Value | None:
    """The value in its type; None where it does not fit."""
    if takes == "switch":
        return value if isinstance(value, bool) else None
    if takes == "text":
        return value if isinstance(value, str) and value else None
    number = _number(value)
    if number is None or not _FITS[takes](number):
        return None
    return int(number) if takes in ("count", "steps") else float(number)


def shown(value: Value) -> str:
    """As a YAML file has it."""
    return str(value).lower() if isinstance(value, bool) else f"{value}"


def _number(value: object) -> float | int | None:
    """Numbers, also as `3e-4`, which YAML 1.1 takes for text."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None
