"""What the guide says of each row of its decision framework, and what this project found, with where that is written.

A figure stands here only with its source: `results/` and `LOG.md` of this project, or "pilot" for measurements made
once, on one seed, before the project began. Where nothing was measured, that is said, with what would measure it.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Said(NamedTuple):
    """One row, by its number."""

    guide: str
    here: str


_CPU = "results/2026-11-21-reproduce-cpu.md"
_COLLAPSE = f"reproduce head-collapse, {_CPU}"
_PILOT_GATE = (
    "pilot with the guide's settings: the raw gate fell to .13 while its floored mean read .38, and the memory gave "
    "nothing (held-out accuracy .192 with it, .192 after a reset)"
)
_WRITES = (
    f"a memory written under no gradient recalls .812 where one written with it recalls .996, at the same capacity and "
    f"steps (reproduce detached-writes, {_CPU}): see first whether the write has a gradient"
)
_TEXT = "reproduce atlas-text, results/2026-11-22-atlas-text-cpu.md"
_GROKKING = "results/2026-11-22-grokking-cpu.md"
_E3 = f"reproduce stablemax-grokking, {_GROKKING}"
_WRITING = "results/2026-11-22-memory-writes-cpu.md"
_TEXTS = "results/2026-11-22-atlas-text-cpu.md"
_TRIALS = f"reproduce atlas-trials, {_TEXTS}"
_EPISODES = f"reproduce atlas-collapse-text, {_TEXTS}"
_SWEEPS = f"reproduce write-sweeps, {_WRITING}"
_FLOORS = "reproduce atlas-floors, results/2026-11-22-atlas-text-cpu.md"
_RISE = 'LOG.md, "What it took for a memory to recall masked words"'

SAID: Mapping[int, Said] = {
    1: Said(
        "climbing steadily: keep parameters, let it train longer",
        "the guide's 90 % is accuracy on the texts that were trained on, without a control; here it is held-out",
    ),
    2: Said(
        "embedding collapse: StableMax is the sole cause, PerpGrad adds to it; turn both off",
        "StableMax collapses the output head of a plain language model without any memory: .33 of the width tied, .26 "
        "untied, cross-entropy .73 and .67, while the untied embedding stays at .89; full PerpGrad is at .07 after 150 "
        f"steps and gives directions back (.41 after 600) ({_COLLAPSE}). In episodes the head keeps .25 to .39 under "
        f"StableMax, .34 to .53 under PerpGrad, .06 to .11 under both, .47 to .61 under PerpGrad 0.5 ({_EPISODES})",
    ),
    3: Said(
        "memory utility not discovered: A force its use (retrieval floor .5, longer phase 1, retrieval weight 10), or "
        "B learn faster (init_eta .2, init_alpha .95, reset each episode)",
        f"10 to 12 % is below what words reach without any memory (.16 to .20, pilot); {_WRITES}. Where it is learned, "
        "A gains .03 to .15 of utility, and B loses .03 to .11 from small steps and all of it from a step that is "
        f"large already, three seeds each ({_TRIALS})",
    ),
    4: Said(
        "the memory is used but may have a capacity limit: d_key, poly_degree",
        "element-wise powers have rank 2 d + 1 only, monomials of degree 2 have (d + 1)(d + 2) / 2 (16 channels: 33 "
        "and 153), but rank does not decide: of 64 pairs in 16 channels the identity recalls .41, the guide's powers "
        ".18 to .19, monomials .30 to .39, a sketch of 64 products of degree 3 .75 to .80 (reproduce memory-capacity, "
        f"{_WRITING})",
    ),
    5: Said(
        "gates at 30 to 60 %: the memory's path is available",
        "an open gate is no use: with a detached write, gates of .34 to .48, and of .86 to .88 under a penalty, stand "
        f"before memories that give nothing (utility -.006 to .002, {_FLOORS})",
    ),
    6: Said(
        "gates below 10 %: the memory is bypassed, raise the floors",
        f"{_PILOT_GATE}; with a detached write no floor of four kinds makes a memory useful, with a differentiable one "
        f"none is needed (utility -.006 to .002 and .05 to .75 in three seeds, {_FLOORS})",
    ),
    7: Said(
        "gates above 90 %: the model relies on its memory too much; no change is given",
        "a penalty that holds raw gates at .92 to .94 does no harm to the memory, nor much good (utility .10 to .75, "
        f"without it .05 to .75, {_FLOORS})",
    ),
    8: Said(
        "accuracy stays with healthy gates: it does not learn when to use the memory; longer phase 1, higher floor",
        f"{_WRITES}; no floor helped one that had none ({_FLOORS})",
    ),
    9: Said("the loss decreases steadily: it learns", "says nothing of a memory: models without one learn too"),
    10: Said(
        "the loss increases: potential instability",
        "look at the memory's own step before the learning rate: a step of .1 with momentum .9 ended at 1e20 to NaN "
        "for most chunks and windows; (1 - momentum) / (2 chunk window), the default start, stayed bounded for every "
        'combination tried (LOG.md, "A constant step size blows test-time memories up")',
    ),
    11: Said(
        "the loss is flat: another learning rate, or longer training",
        "longer first: accuracy on masked words stayed where it was for about 300 steps and then rose within 100, one "
        f"seed ({_RISE})",
    ),
    12: Said(
        "80 to 30 % over 10,000 steps after accuracy rose: grokking, go on",
        "a network can generalise late without such a fall: StableMax on modular addition, .05 to .07 at epoch 8,000, "
        f".52 to .58 at 20,000, while the first layer's dimension goes from .44 to .41 ({_E3})",
    ),
    13: Said(
        "78 to 0.4 % within 1,500 steps before accuracy rose: collapse",
        f"full PerpGrad falls to .07 of the width within 150 steps and its accuracy still climbs to .19 ({_COLLAPSE}): "
        "a fall alone is no verdict",
    ),
    14: Said(
        "cosine 0: starved of signal; above 0.3: healthy",
        "in the guide's code gradients are cleared before the cosine is taken, so that it is always 0; models of text "
        "lie at -.002 to .014 of the direction of descent, whether the memory is used or not (means of trainings, "
        f"{_TEXTS})",
    ),
    15: Said(
        "softmax collapse at 100 %: in mathematics, StableMax or PerpGrad",
        "modular addition is generalised with PerpGrad by epoch 100 to 150, with AdamW alone not by epoch 300 "
        f"(reproduce perpgrad, {_CPU}); with StableMax slowly, .52 to .58 after 20,000 epochs, while under "
        f"cross-entropy half of the rows collapse by epoch 10,445 ({_E3})",
    ),
    16: Said(
        "memory_magnitude flat: the memory is inactive; raise init_eta, lower init_alpha",
        "of 32 pairs in 16 channels twice and thrice the step recall .02 and .01 less (intervals -.14 to .13), a "
        f"retention of .95 and .9 a token .06 and .16 less ({_SWEEPS}); on text steps 16 times apart serve alike, and "
        f"one twice as large as the larger ends all use ({_TRIALS})",
    ),
    17: Said(
        "init_alpha near 1 retains, .9 responds; init_eta higher learns faster; poly_degree is more expressive",
        "in the guide's code these only start: nothing trains them; init_eta acts at half its value there. Here .99 "
        "retains .17 more than .9 of what was stored first, and .19 more of what was stored last; the step makes no "
        f"difference that three seeds show ({_SWEEPS}); of feature maps see row 4",
    ),
    18: Said(
        "more storage_samples store more, more retrieval_samples practise more, a reset isolates episodes",
        "more than the memory holds is no help: with five texts of 64 words, 320 writes into 64 x 64, the utility was "
        ".006 after 300 steps and -.002 after 450 (two standard errors .004), with two of 32 words and 128 channels "
        f".23 after 400; masks, batch and retention differed too, one seed ({_RISE}). Twice the texts leave .01 to "
        ".02 of .22 to .73, a reset gains .26 to .44 over a memory that is carried on, which overflows at larger steps "
        f"({_TRIALS})",
    ),
    19: Said(
        "num_masks 8 if accuracy struggles",
        "fewer masks are fewer answers to learn from in a step: utility .54, .03, .03 for .73, .65, .22 with all "
        f"({_TRIALS})",
    ),
    20: Said(
        "retrieval_loss_weight 10 presses harder, 2 shows whether the memory is used unforced",
        f"a weight cannot teach what has no gradient; {_WRITES}. Where the write is learned a weight of 10 gains .02 "
        f"to .04, and under a weight of 2 the memory is used too, .17 to .66 ({_TRIALS})",
    ),
    21: Said(
        "validated for language: no weight decay, learning rate 3e-4, StableMax and PerpGrad off",
        "StableMax costs accuracy on held-out prose (.106 for .276, tied), PerpGrad 0.5 hardly (.266) "
        f"({_COLLAPSE}); in 400 steps of episodes a learning rate of 3e-4 uses no memory (.00) where 5e-3 does (.22 to "
        f".73), and a weight decay of .01 changes nothing ({_TRIALS})",
    ),
    22: Said(
        "a small weight decay (.01) after grokking may generalise better; untried there",
        f"from the first step it changes the utility by .002 to .007 ({_TRIALS}); after grokking was not measured",
    ),
    23: Said(
        "for mathematics: weight decay .1, StableMax, PerpGrad from .5",
        "the three together, as the guide has them, generalise modular addition by epoch 796 to 964 and sparse parity "
        "by 306 to 1,170, in three seeds each, grokked in the strict sense; PerpGrad 1 alone by 60 to 66 and 1,012 to "
        f"1,420 (reproduce grokking-tasks, {_GROKKING}). Alone .75 and below do not within 300 epochs (reproduce "
        f"perpgrad-strength, {_CPU})",
    ),
    24: Said(
        "plateaus ended after 13,000 steps, up to 50,000; change one small thing, finish runs",
        "a plateau of about 300 steps ended within 100, and where a run of 400 stood depended on when: utility .144, "
        f".222, .036 in three seeds ({_TEXT}). It ends where something is to be found: with the memory over-full it "
        f"had not after 450 ({_RISE})",
    ),
    25: Said(
        "isolate variables: tests of PerpGrad had StableMax on all along",
        f"apart they differ: StableMax collapses the head, PerpGrad the tied embedding for a while ({_COLLAPSE}); in "
        "episodes the head keeps .25 to .39 under StableMax, .34 to .53 under PerpGrad and .06 to .11 under both "
        f"({_EPISODES})",
    ),
}
