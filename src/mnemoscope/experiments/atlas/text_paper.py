"""The recipe of the size "paper" of the studies of ATLAS on text: H1 and H2 of the atlas specification, 6.2, for a GPU.

    atlas-text --size paper             H1: four layers of width 128, texts of 256 tokens, byte-pair encoding of 8,000
                                        tokens, 8,000 steps; the differentiable write, and as published at two rates
    atlas-collapse-text --size paper    H2: the same sizes, 1,500 steps; StableMax x PerpGrad, tied and untied

The guide's small model is twice as wide, on twice as long texts of 32,000 tokens, for 42,500 steps; the specification
cuts that to what one GPU trains in minutes. What nobody has searched for at this size is taken from elsewhere: two
texts an episode, as at the size "small", and a memory whose head has a channel for each of the 512 tokens that are then
stored (LOG.md: capacity first); a tenth of the words masked, as the guide has it; a learning rate of 3e-3, the largest
that ATLAS was published with, and 1e-3 for the slower published arm; the rest is that of `text_recipe`.
"""

from collections.abc import Mapping

from mnemoscope.experiments.atlas.keys import Value
from mnemoscope.experiments.atlas.text_recipe import BASE, EVALUATIONS_OF_MANY, MEMORY, WITH_PHASE, TextRecipe

STEPS, COLLAPSE_STEPS = 8000, 1500

GUIDE: Mapping[str, Value] = {
    **BASE,
    "d_model": 128,
    "n_layers": 4,
    "d_ff": 512,
    "vocab_size": 8000,
    "tokenizer": "bpe",
    "max_seq_len": 256,
    "window_size": 64,
    "num_masks": 26,
    "batch_size": 32,
    "max_steps": STEPS,
    "warmup_steps": 400,
    "learning_rate": 3e-3,
    "phase1_steps": 2400,
    "phase2_steps": 3200,
    "log_interval": 40,
    "metrics_interval": 80,
    "checkpoint_interval": 1000,
}
HEAD_WIDTH = int(GUIDE["storage_samples"]) * int(GUIDE["max_seq_len"])

PAPER = TextRecipe(
    guide=GUIDE,
    memory=tuple(f"omega.head_width={HEAD_WIDTH}" if "head_width" in each else each for each in MEMORY),
    evaluations=EVALUATIONS_OF_MANY,
    observed=WITH_PHASE,
)
