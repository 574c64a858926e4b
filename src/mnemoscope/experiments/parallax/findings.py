"""The claims of the Parallax notes, each with the figures that answer it; pages are those of the survey's studies.

What a bank is worth over the cortex alone is presupposed wherever a claim is that something costs it nothing.
"""

from collections.abc import Mapping

from mnemoscope.experiments.parallax.arms import LOOKING, Arm
from mnemoscope.experiments.parallax.bidirectional import PARALLAX_BIDIRECTIONAL
from mnemoscope.experiments.parallax.bridge import PARALLAX_BRIDGE, SMALL
from mnemoscope.experiments.parallax.collapse import PARALLAX_COLLAPSE
from mnemoscope.experiments.parallax.collapse_claims import CONSTANT_BIAS, DELETED, SPREAD, WORSE
from mnemoscope.experiments.parallax.phase import PARALLAX_PHASE
from mnemoscope.experiments.survey.frame import Finding, study
from mnemoscope.experiments.survey.pages import Heading

NOTE = "Parallax notes, note 004"
SIZE = (
    "Width 64, bytes, 1.15M of them; sizes, steps and equations of the note are not public. The batch was chosen so "
    "that the bank collapses within as many tokens, so this is a test of what follows from a collapse."
)

FIXES: Mapping[Arm, str] = {
    "A1": "a spread spectrum",
    "A2": "orthogonal slots",
    "A3-1": "a read of the best slot alone",
    "A3-4": "a read of the best 4 slots",
    "A3-8": "a read of the best 8 slots",
    "A4": "slots drawn anew half-way",
}

HEADING = Heading(
    name="parallax",
    title="What holds of the Parallax notes",
    about="Claims of the notes on an architecture that is not public, tested on a reconstruction of it.",
    folder="findings/parallax",
)

COLLAPSE = study(
    PARALLAX_COLLAPSE,
    Finding(
        slug="bank-collapses",
        claim="A bank that its energy alone trains collapses: its slots become nearly one vector, read nearly evenly",
        source=NOTE,
        decided_by={"A0_cosine": "slots lie within the note's cosine", "A0_entropy": "addresses are nearly even"},
        if_holds="Look at cosine, centred rank and beta lambda_max of a bank while it is trained; then ask what it is "
        "worth before you mend it.",
        if_not="Do not expect a collapse from the energy alone; look at the bank.",
        elsewhere="Of a collapse this is no evidence for the note: the batch was chosen so that the bank collapses "
        "within as many tokens (16 windows a step left a mean cosine of 0.03 in seed 0). Larger widths and longer "
        "trainings would decide whether steps, tokens or the width bring it about.",
    ),
    Finding(
        slug="deleting-slots-costs-nothing",
        claim="Removing any subset of the slots of a collapsed bank has a negligible effect",
        source=NOTE,
        decided_by={f"deleted_{share:.0%}": f"with {share:.0%} of the slots deleted" for share in DELETED},
        requires=("A0_cosine", "bank_worth"),
        if_holds="Keep a tenth of the slots, or fold the bank into one vector (`mnemoscope fold`).",
        if_not="Slots differ in what the network needs: do not delete by cosine.",
        elsewhere=f"Slots are drawn at random, once a seed; the worst subset was not searched for. {SIZE}",
    ),
    Finding(
        slug="fixes-keep-the-bank-diverse",
        claim="Spread spectra, orthogonal slots, top-k reads and slots drawn anew keep the bank diverse",
        source=f"{NOTE}, which calls this the proximate goal",
        decided_by={
            **{f"{arm}_cosine": f"the fix is {FIXES[arm]} and slots are looked at" for arm in WORSE},
            **{f"{arm}_entropy": f"the fix is {FIXES[arm]} and addresses are looked at" for arm in SPREAD},
        },
        requires=("A0_cosine",),
        if_holds="These terms do what they say to the slots; whether the network gains is another question.",
        if_not="Look at the slots after training: the term was too weak, or was undone.",
        elsewhere=f"One strength of each term. Addresses of top-k reads are uneven by construction. {SIZE}",
    ),
    Finding(
        slug="fixes-make-it-worse",
        claim="Every fix of the collapse makes the model worse",
        source=NOTE,
        decided_by={f"{arm}_over_A0": f"the fix is {FIXES[arm]}" for arm in WORSE},
        requires=("A0_cosine",),
        if_holds="Do not force a collapsed bank open; ask first whether it bears load.",
        if_not="A fix may be tried: it costs nothing here.",
        elsewhere=f"One strength of each term. {SIZE}",
    ),
    Finding(
        slug="diversity-hurts",
        claim="Diversity of the slots correlates negatively with what the bank is worth",
        source=NOTE,
        decided_by={"correlation": "over the banks of as many slots, the interval over seeds below 0"},
        requires=("A0_cosine",),
        if_holds="Diversity is no aim by itself: measure benefit.",
        if_not="Nothing follows from diversity, for or against a bank.",
        elsewhere=f"Eight banks a seed, of which six are trained against a collapse; an association, no cause. {SIZE}",
    ),
    Finding(
        slug="diverse-reads-leave-the-manifold",
        claim="Reads of a collapsed bank lie among the states of the cortex, and those of a diverse one move off them",
        source=NOTE,
        decided_by={
            "A0_distance": "the collapsed bank speaks nearer to the states than half of chance",
            "distance_gained": "the spread bank speaks farther from them, the interval over seeds above 0",
        },
        requires=("A0_cosine", "A1_cosine"),
        if_holds="Give what is read the span of the states that it is added to.",
        if_not="That diverse reads leave the states is not why they cost, if they cost.",
        elsewhere="The manifold is the span of 95 % of the states' energy; fixed random slots (A7) are the control "
        f"whose slots nothing aligns. {SIZE}",
    ),
    Finding(
        slug="gate-fits-one-bank",
        claim="The gate is trained against one distribution of reads and cannot follow another",
        source=NOTE,
        decided_by={
            "A0_gate_over_control": "the collapsed bank bears the gate of one slot better than that of the spread bank",
            "A1_gate_over_control": "the spread bank bears the gate of orthogonal slots better than that of the "
            "collapsed bank",
        },
        requires=("A0_cosine", "A1_cosine", "A2_cosine"),
        if_holds="Train the gate again where a bank is changed under it.",
        if_not="What a foreign gate costs here is the cost of another training's gate, whatever the bank.",
        elsewhere="Every gate that is swapped in was trained with another cortex from the same start; the controls are "
        f"too, with a bank as diverse. {SIZE}",
    ),
    Finding(
        slug="one-slot-does-as-well",
        claim="The bank is a shared bias: one learned vector does as well",
        source=NOTE,
        decided_by={
            "A5_over_A0": "one slot in its place loses as much, the interval over seeds within 0.01 nats",
            CONSTANT_BIAS: "the verdict of the examination is constant-bias",
            "fold_accepted": "the trained bank can be folded into one vector",
        },
        requires=("A0_cosine", "bank_worth"),
        if_holds="Use one vector: `mnemoscope fold` replaces the bank and checks that it is equivalent.",
        if_not="Examine before you fold: the bank holds more than a constant, or training found another use for it.",
        elsewhere=SIZE,
    ),
    Finding(
        slug="gate-does-the-work",
        claim="It is the fusion gate that does the content-specific work",
        source=NOTE,
        decided_by={"gate_worth": "one slot with a gate is better than one without by 0.01 nats"},
        requires=("bank_worth",),
        if_holds="Keep the gate when the bank is folded.",
        if_not="The gate may go with the bank.",
        elsewhere=f"A gate of one vector only, not of the bank. {SIZE}",
    ),
)

BIDIRECTIONAL = study(
    PARALLAX_BIDIRECTIONAL,
    Finding(
        slug="looking-bank-is-a-bias-too",
        claim="Read by a bidirectional head, as in the note, the bank collapses and is a bias as well",
        source=NOTE,
        decided_by={
            f"{LOOKING}_cosine": "slots lie within the note's cosine",
            f"{LOOKING}_entropy": "addresses are nearly even",
            **{f"{LOOKING}_deleted_{share:.0%}": f"{share:.0%} of the slots deleted cost nothing" for share in DELETED},
            "A5_over_looking": "one slot that does not look does as well",
        },
        requires=(f"{LOOKING}_worth",),
        if_holds="A second pass over the tokens does not make a memory of a bank.",
        if_not="Slots that look at the tokens hold some of the sequence: ask the examination for how long.",
        elsewhere=f"Slots look once, at the tokens so far, since a decoder must be causal. {SIZE}",
    ),
)

BRIDGE = study(
    PARALLAX_BRIDGE,
    Finding(
        slug="accumulator-and-loop-fill-the-banks-place",
        claim="What came in the bank's place, the accumulator and then the loop, does more than the bank",
        source="Parallax notes, note 004 and the pages of version 3",
        decided_by={
            "accumulator_text_gain": "the accumulator on text, the interval over seeds above 0",
            "workspace_text_gain": "the longest loop on text, the interval over seeds above 0",
            "loop_recall_gain": "the longest loop on recall, by 0.1 and more",
        },
        requires=("unequal",),
        if_holds="Beside a short-sighted cortex, spend parameters on what accumulates, not on a bank.",
        if_not="At equal parameters the bank's place is as well left to one vector.",
        elsewhere="The cortex sees four tokens, so that what is farther away is left to what stands beside it; beside "
        "a cortex that sees all, gains may vanish. Equations of both are reconstructed.",
    ),
    Finding(
        slug="more-steps-recall-more",
        claim="The steps K of the inner loop are used gradually on recall",
        source="Parallax notes, the pages of version 3",
        decided_by={"recall_by_K": "the longest loop recalls more than the shortest, the interval over seeds above 0"},
        requires=("loop_recall_gain", f"{SMALL.shortest}_recall"),
        if_holds="Choose K by recall, and look how many steps tokens need.",
        if_not="Take the shortest loop.",
        elsewhere="K of 2, 4 and 16 on four pairs. The note's loop is trained with one live step, as here; on text it "
        "reports that K is used or not, which the page of the experiment shows and nothing decides.",
    ),
    Finding(
        slug="loop-is-a-contraction",
        claim="The inner loop is a contraction, perturbed by what attention reads",
        source=NOTE,
        decided_by={
            "ratio_over_q": "no step shrinks less than the certificate says",
            "lyapunov_over_log_q": "no Lyapunov exponent is above its logarithm",
            "apart": "random starts end in one place",
        },
        if_holds="Loops of this form may be stopped by a tolerance: there is one end.",
        if_not="The certificate is wrong: report it as a fault.",
        elsewhere="A strict contraction by construction; the notes also speak of attractors and metastable states, "
        "which such a map cannot have.",
    ),
)

PHASE = study(
    PARALLAX_PHASE,
    Finding(
        slug="stability-line",
        claim="One vector for all slots is stable if and only if beta lambda_max(E[q q^T]) is below 1",
        source="second variation of the energy, decorative-memory specification, section 1.3",
        decided_by={"line_obeyed": "banks started near one vector are one vector again below the line, and not above"},
        if_holds="Print beta lambda_max beside the cosine of a bank: it says whether a collapse can be left.",
        if_not="Do not go by beta lambda_max.",
        elsewhere="Gaussian queries that do not move; those of a trained cortex do.",
    ),
    Finding(
        slug="large-starts-escape-below-the-line",
        claim="The line is local: from a large start a bank ends elsewhere already below it, even at one winner",
        source="decorative-memory specification, section 1.3",
        decided_by={
            "escaped_below": "every end counts that is not one vector",
            "winners_below": "an end at one winner is asked for",
        },
        if_holds="Where slots start matters: note it, and look for a winner too, which is another collapse.",
        if_not="Where slots start matters less than beta lambda_max: go by the line.",
        elsewhere="One kind of queries and 32 slots; with other spectra the kinds of ends differ.",
    ),
)

STUDIES = (COLLAPSE, BIDIRECTIONAL, BRIDGE, PHASE)
"""What `mnemoscope reproduce parallax` stands for; slugs of findings must not repeat."""
