"""What to change, as a table: a condition on what was measured, a diagnosis, a change of configuration, a source."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass

from mnemoscope.examination.judgement.framework import advise
from mnemoscope.examination.judgement.signs import Evidence
from mnemoscope.runs.examination import PrescriptionRecord, SiteRecord


@dataclass(frozen=True)
class Prescription:
    """A row: where `applies` holds for a site, `change` is what to try.

    `command` tries it, where one does today: RECIPE, RUN and OUT stand for the user's own, SITE for the site's name and
    SEQUENCES for the number that it requires.
    """

    condition: str
    applies: Callable[[SiteRecord], bool]
    diagnosis: str
    change: str
    source: str
    command: str = ""


def _verdict(*verdicts: str) -> Callable[[SiteRecord], bool]:
    return lambda site: site.verdict in verdicts


def _measure_below(name: str, bound: float) -> Callable[[SiteRecord], bool]:
    unused = _verdict("decorative", "redundant", "constant-bias", "decorative (scale)")
    return lambda site: unused(site) and site.measures.get(name, bound) < bound


def _starved_slots(site: SiteRecord) -> bool:
    return site.verdict == "starved" and "addressing_entropy" in site.measures


def _train(layout: str) -> str:
    return f'mnemoscope train RECIPE --layout "{layout}" --out OUT'


def _trial(remedies: str, *options: str) -> str:
    return " ".join([f'mnemoscope trial RECIPE --remedies "{remedies}"', *options])


_FOLD, _DELETE = "mnemoscope fold RUN --site SITE --out OUT", "mnemoscope fold RUN --site SITE --delete --out OUT"
_FOLLOWS = "follows from the verdict (docs/design.md, section 4)"
_CURES = "another route is as easy or easier, so training has no need of this memory"
_STARVED = "the answer is not stored, and nothing teaches the memory to store it"
_FULL = "there is more to hold than it can keep apart"

PRESCRIPTIONS: tuple[Prescription, ...] = (
    Prescription(
        "verdict is decorative, redundant or load-bearing (shared)",
        _verdict("decorative", "redundant", "load-bearing (shared)"),
        _CURES,
        "shorten the attention window below the distances the task asks for",
        "the remedy pilot of the survey: the memory then carries all of it, in every seed",
        _train("attention(window=4), gated_delta"),
    ),
    Prescription(
        "verdict is decorative, redundant or load-bearing (shared)",
        _verdict("decorative", "redundant", "load-bearing (shared)"),
        _CURES,
        "where long attention must stay: drop whole attention branches in training (probability 0.5, falling to 0.1)",
        "scheduled window dropout: Benfeghoul et al. 2025 (arXiv 2510.05901); works in most seeds, not in all (two of "
        "three in survey-window and survey-branches)",
        _trial("branch_dropout(strength=0.5, final_strength=0.1)"),
    ),
    Prescription(
        "verdict is decorative, redundant or load-bearing (shared)",
        _verdict("decorative", "redundant", "load-bearing (shared)"),
        _CURES,
        "or draw the window of long attention anew for each batch, from a few tokens to all, and train for longer",
        "SWAX: Cabannes et al. 2025 (arXiv 2509.24552); woke the memory in three seeds of three in survey-window",
        _trial("stochastic_window(windows=(4, 8, 16, 32))"),
    ),
    Prescription(
        "verdict is decorative",
        _verdict("decorative"),
        _CURES,
        "place memories first and attention later, with a small window; no positions in layers of full attention",
        "placement: arXiv 2606.15378 and 2510.04800; behind full attention a memory idled in three seeds of three, "
        "before it in one (survey-window)",
        _train("gated_delta, attention(window=4)"),
    ),
    Prescription(
        "verdict is decorative",
        _verdict("decorative"),
        _CURES,
        "weaken the shortcut: a narrower or feed-forward controller, or a skip around the memory whose scale falls "
        "from 1 to 0.1; watch that the loss gets no worse",
        "controllers: survey-controller; of a weaker skip folklore, which woke no memory in three seeds "
        "(survey-branches)",
        _trial("shortcut_weakening"),
    ),
    Prescription(
        "verdict is decorative",
        _verdict("decorative"),
        "the network does the same without it",
        "if no remedy is wanted: delete the site and test that the loss stays within the margin",
        _FOLLOWS,
        _DELETE,
    ),
    Prescription(
        "verdict is constant-bias",
        _verdict("constant-bias"),
        "the memory has collapsed to one vector, and that vector is worth its place",
        "accept it: replace the read by its optimal constant, keep the gate; do not force diversity",
        "the Parallax notes, note 004: diversity losses and forced routing made the model worse",
        _FOLD,
    ),
    Prescription(
        "verdict is redundant",
        _verdict("redundant"),
        "a backup of what another route does",
        "decide whether the backup is worth its cost, or delete it and test that the loss stays within the margin",
        _FOLLOWS,
        _DELETE,
    ),
    Prescription(
        "verdict is clock",
        _verdict("clock"),
        "it tells the time: what it says depends on the position, not on the content",
        "accept it and fold it: replace the read by its best constant of each position, keep the gate, and test that "
        "the loss stays within the margin; do not force diversity",
        "the Parallax notes, note 004: diversity losses and forced routing made the model worse",
        _FOLD,
    ),
    Prescription(
        "verdict is starved",
        _verdict("starved"),
        _STARVED,
        "add an auxiliary loss that reconstructs earlier inputs from the state (weight 0.1 to 1)",
        "Trinh et al. 2018 (arXiv 1803.00144)",
        _trial("reconstruction(strength=0.5)"),
    ),
    Prescription(
        "verdict is starved",
        _verdict("starved"),
        _STARVED,
        "open the gate: its bias at +2 and three times the learning rate for the memory, warmed up with the auxiliary "
        "loss; avoid a zero-initialised output projection",
        "a zero-initialised slow path that never opened: arXiv 2606.16730; bias and learning rate are folklore",
        _trial("gate_opening, reconstruction(final_strength=0)", "--together"),
    ),
    Prescription(
        "verdict is starved, of a memory of slots",
        _starved_slots,
        _STARVED,
        "start slots at 1e-6, clip the controller's outputs at 20 and the gradient's norm at 50, keys through tanh, a "
        "forget bias of 1",
        "Collier & Beel 2018 (arXiv 1807.08518)",
        _trial("ntm_stability"),
    ),
    Prescription(
        "verdict is starved",
        _verdict("starved"),
        _STARVED,
        "a curriculum: short sequences first, or a bandit that chooses lengths by how much is learned on them",
        "Graves et al. 2017 (arXiv 1704.03003)",
    ),
    Prescription(
        "verdict is saturated",
        _verdict("saturated"),
        _FULL,
        "a larger state: wider heads, or more of them",
        "Chen et al. 2025 (arXiv 2410.07145): what fits grows with the state",
        _train("attention(window=4), gated_delta(head_width=64)"),
    ),
    Prescription(
        "verdict is saturated",
        _verdict("saturated"),
        _FULL,
        "a mixer with a gate and the delta rule, which overwrites what it replaces; negative eigenvalues if it must "
        "track a state",
        "gated delta rule: Yang et al. 2024 (arXiv 2412.06464)",
        _train("attention(window=4), gated_delta(negative_eigenvalues=True)"),
    ),
    Prescription(
        "verdict is saturated",
        _verdict("saturated"),
        _FULL,
        "train on longer sequences, or carry the state from batch to batch, so that it learns to forget",
        "Chen et al. 2025 (arXiv 2410.07145)",
    ),
    Prescription(
        "verdict is decorative (scale)",
        _verdict("decorative (scale)"),
        "it only sets the scale of what a norm divides by",
        "replace it by a constant of its size, or delete it and rescale the norm that follows",
        "follows from the verdict (docs/design.md, section 4); planted memory G15 of `mnemoscope calibrate`",
        _FOLD,
    ),
    Prescription(
        "verdict is local-only",
        _verdict("local-only"),
        "the module works as a short filter; nothing older than the local window is used",
        "train on longer sequences and on targets whose source is older than the local window; shorten the window "
        "beside it",
        "state passing and training length: Chen et al. 2025 (arXiv 2410.07145); stochastic windows: SWAX",
        _train("attention(window=4), gated_delta"),
    ),
    Prescription(
        "verdict is not-demanded",
        _verdict("not-demanded"),
        "the data can be predicted without history",
        "examine on data whose answers lie further back than the local window",
        _FOLLOWS,
    ),
    Prescription(
        "verdict is untrained",
        _verdict("untrained"),
        "the model does not beat a constant output yet",
        "train longer, or check learning rate and targets, before asking about its memory",
        _FOLLOWS,
        "mnemoscope train RECIPE --steps 3000 --out OUT",
    ),
    Prescription(
        "not used, and mean raw gate below 0.01",
        _measure_below("gate_mean", 0.01),
        "the gate is shut, so nothing can teach what stands behind it",
        "start the gate's bias at +2 and give the memory three times the learning rate; avoid a zero-initialised "
        "output projection",
        "a zero-initialised slow path that never opened: arXiv 2606.16730; bias and learning rate are folklore",
        _trial("gate_opening"),
    ),
    Prescription(
        "not used, and gradient share below 0.001",
        _measure_below("gradient_share", 1e-3),
        "next to no gradient reaches the memory",
        "add an auxiliary reconstruction loss on its state (weight 0.1 to 1)",
        "Trinh et al. 2018 (arXiv 1803.00144)",
        _trial("reconstruction(point='state')"),
    ),
    Prescription(
        "verdict is inconclusive",
        _verdict("inconclusive"),
        "too few sequences for this margin",
        "examine on the number of sequences given beside the verdict",
        "sample size for a paired mean at 80 % power",
        "mnemoscope examine RUN --test SEQUENCES",
    ),
)


def prescribe(site: SiteRecord) -> list[PrescriptionRecord]:
    """The rows that apply to a site, with the evidence they stand on; then those of the Atlas framework."""
    evidence = f"optimal constant {site.effects['read']['optimal_constant']} nats"
    if site.share is not None:
        evidence += f", share {max(site.share.value, 0):.0%}"
    if site.required_sequences is not None:
        evidence += f", needs {site.required_sequences} sequences"
    for name in ("gate_mean", "gradient_share"):
        if name in site.measures:
            evidence += f", {name.replace('_', ' ')} {site.measures[name]:.3g}"
    rows = [
        PrescriptionRecord(
            site=site.name,
            condition=row.condition,
            diagnosis=row.diagnosis,
            change=row.change,
            source=row.source,
            evidence=evidence,
            command=_filled(row.command, site),
        )
        for row in PRESCRIPTIONS
        if row.applies(site)
    ]
    return rows + advise(Evidence(site=site), fine=False)


def _filled(command: str, site: SiteRecord) -> str:
    """The command with what is known of the site; none where it is of one memory and the site is a group."""
    if "SITE" in command and site.role == "group":
        return ""
    known = command.replace("SEQUENCES", str(site.required_sequences or "SEQUENCES"))
    return known.replace("SITE", shlex.quote(site.name))
