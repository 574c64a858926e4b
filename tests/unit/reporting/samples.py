"""Examinations as they come out of the instrument: a recall task before and after a prescription, and edge cases."""

import json
import math
from typing import get_args

from mnemoscope.reporting import Case
from mnemoscope.runs import (
    Estimate,
    Examination,
    HorizonPoint,
    PositionCurve,
    PrescriptionRecord,
    SiteRecord,
)
from mnemoscope.runs.examination import (
    ComparisonRecord,
    ControlRecord,
    LoadRecord,
    PatchingRecord,
    ProbeRecord,
    SubsetRecord,
    Verdict,
)

ADDED = {
    "groups",
    "subsets",
    "loads",
    "controls",
    "n_tuning",
    "look",
    "looks",
    "missing",
    "members",
    "probe",
    "patching",
    "unmeasured",
    "by",
    "continuation",
    "comparisons",
    "level",
    "command",
}
"""What a record of the first release lacks."""

HOSTILE = 'blocks.0"><script>alert(1)</script><img src=x onerror=alert(2)>$\\frac{x}$&#0072b2 id="x"\u202e\n記憶'


def estimate(value: float, half_width: float = 0.05) -> Estimate:
    return Estimate(value=value, low=value - half_width, high=value + half_width)


def nan_estimate() -> Estimate:
    return Estimate(value=math.nan, low=math.nan, high=math.nan)


def position_curve(level: float, n: int = 40, slope: float = 0.0) -> PositionCurve:
    positions = list(range(8, 8 + n))
    return PositionCurve(
        positions=positions,
        loss=[level * (1 + 0.02 * math.sin(i)) + slope * i / n for i in range(n)],
        n_sequences=[512 - i for i in range(n)],
    )


def memory(name: str = "blocks.1.memory", scale: float = 3.1, **changes) -> SiteRecord:
    """A load-bearing memory; `scale` is its best-constant effect in nats."""
    fields = {
        "name": name,
        "role": "memory",
        "module": "GatedDeltaMemory",
        "effects": {
            "read": {
                "optimal_constant": estimate(scale, 0.1),
                "zero": estimate(1.86 * scale, 0.12),
                "mean": estimate(1.63 * scale, 0.11),
                "resample": estimate(2.7 * scale, 0.2),
                "random_constant": estimate(2.1 * scale, 0.2),
            },
            "contribution": {"optimal_constant": estimate(scale, 0.1), "zero": estimate(1.8 * scale, 0.1)},
        },
        "horizon": [
            HorizonPoint(window=w, effect=estimate(scale * f, 0.06))
            for w, f in ((1, 1.9), (2, 1.8), (4, 1.7), (8, 1.2), (16, 0.6), (32, 0.2), (48, 0.0))
        ],
        "horizon_method": "windowed",
        "conditional": estimate(scale, 0.1),
        "share": Estimate(value=0.97, low=0.95, high=0.99),
        "necessity": scale / 3.2,
        "sufficiency": 0.98,
        "measures": {
            "effective_dimension": 21.4142,
            "read_width": 64.0,
            "mean_vector_share": 0.12,
            "gate_mean": 0.62,
            "addressing_entropy": 0.431,
            "gradient_share": 0.87,
        },
        "verdict": "load-bearing (sole)",
        "because": "its history is used, and little else could supply it",
        "without": position_curve(3.3, slope=0.1),
    }
    return SiteRecord(**(fields | changes))


def decorative(name: str = "blocks.1.memory", **changes) -> SiteRecord:
    fields = {
        "verdict": "decorative",
        "because": "neither the best constant nor zero in its place is missed",
        "effects": {
            "read": {
                "optimal_constant": estimate(0.004, 0.006),
                "zero": estimate(0.011, 0.008),
                "mean": estimate(0.006, 0.006),
                "resample": estimate(0.03, 0.02),
                "random_constant": estimate(0.012, 0.01),
            }
        },
        "horizon": [HorizonPoint(window=w, effect=estimate(0.003, 0.005)) for w in (1, 2, 4, 8, 16, 32, 48)],
        "conditional": estimate(0.01, 0.01),
        "share": Estimate(value=0.002, low=-0.001, high=0.006),
        "necessity": 0.00125,
        "sufficiency": 0.01,
        "measures": {"effective_dimension": 1.02, "mean_vector_share": 0.97, "gate_mean": 0.08, "half_life": 3.0},
        "without": position_curve(0.062),
    }
    return memory(name, **(fields | changes))


def attention(name: str = "blocks.1.attention", scale: float = 0.01) -> SiteRecord:
    return SiteRecord(
        name=name,
        role="route",
        module="SlidingWindowAttention",
        effects={"contribution": {"optimal_constant": estimate(scale, 0.01), "zero": estimate(1.5 * scale, 0.02)}},
        share=Estimate(value=0.03, low=0.01, high=0.05),
        necessity=scale / 3.2,
    )


def examination(**changes) -> Examination:
    fields = {
        "subject": "HybridStack, 2 blocks, d=64",
        "n_calibration": 512,
        "n_test": 1024,
        "seed": 7,
        "local_window": 4,
        "base_loss": estimate(0.011, 0.003),
        "constant_output_loss": 3.466,
        "memories_off": estimate(3.15, 0.1),
        "routes_off": estimate(0.06, 0.02),
        "headroom": estimate(3.2, 0.09),
        "memories_share": Estimate(value=0.98, low=0.96, high=1.0),
        "margin": 0.064,
        "sites": [memory()],
        "routes": [attention()],
        "routes_known": True,
        "base": position_curve(0.06),
        "prescriptions": [],
        "replay": "stubbed: identity replay bitwise equal at 2 of 2 sites",
        "warnings": [],
        "seconds": {"sites": 0.4, "effects": 21.25, "horizon": 8.0},
        "versions": {"mnemoscope": "0.1.0", "torch": "2.13.0", "numpy": "2.4.6", "python": "3.11.7"},
    }
    return Examination(**(fields | changes))


def prescription(site: str = "blocks.1.memory") -> PrescriptionRecord:
    return PrescriptionRecord(
        site=site,
        condition="decorative, demand present, attention window ≥ distance of the cues",
        diagnosis="Attention is the easier path: it reaches every cue, so the memory is never asked.",
        change="Drop the whole attention branch with probability 0.5 during training (branch dropout).",
        source="Scheduled sliding-window dropout, arXiv 2510.05901",
        evidence="best-constant effect 0.004 [-0.002, 0.010] nats; attention share 99 %",
    )


def metrics(n: int = 150, floor: float = 0.02) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    for i in range(1, n + 1):
        row = {"step": 10 * i, "train_loss": floor + 3.4 * math.exp(-i / 25) + 0.04 * math.sin(i)}
        if i % 10 == 0:
            row |= {"validation_loss": floor + 3.5 * math.exp(-i / 26), "accuracy": 1 - 0.97 * math.exp(-i / 20)}
        rows.append(row)
    return rows


def after() -> Case:
    return Case(
        label="Recall, after",
        question="Recall of 8 pairs, trained with branch dropout: does the memory carry the task now?",
        examination=examination(),
        metrics=metrics(),
        config={"model": {"d_model": 64, "n_blocks": 2, "window": 48}, "training": {"steps": 1500, "seed": 0}},
    )


def before() -> Case:
    route = attention(scale=3.1).model_copy(update={"share": estimate(0.99, 0.01), "necessity": 0.97})
    return Case(
        label="Recall, before",
        question="Recall of 8 pairs, with attention that sees the whole sequence: is the memory used?",
        examination=examination(
            sites=[decorative()],
            routes=[route],
            memories_off=estimate(0.01, 0.006),
            memories_share=Estimate(value=0.004, low=-0.002, high=0.01),
            routes_off=estimate(3.14, 0.1),
            prescriptions=[prescription(), prescription("blocks.3.memory")],
            warnings=["the row-independence test failed for blocks.0.attention; its interventions ran one by one"],
        ),
        metrics=metrics(floor=0.01),
        config={"model": {"d_model": 64, "n_blocks": 2, "window": 48}, "training": {"steps": 1500, "seed": 0}},
    )


def text() -> Case:
    names = ("blocks.0.memory", "blocks.1.memory", "blocks.2.memory")
    sites = [
        decorative(names[0], without=position_curve(2.371, 300, -0.5)),
        memory(
            names[1],
            0.14,
            verdict="load-bearing (shared)",
            share=Estimate(value=0.41, low=0.33, high=0.48),
            necessity=0.4,
            sufficiency=0.55,
            without=position_curve(2.5, 300, -0.4),
        ),
        memory(
            names[2],
            0.008,
            verdict="constant-bias",
            because="worth exactly one learned vector: that vector matters, its content not",
            flags=["noisy: another sequence's read does harm", "winner-take-all"],
            share=Estimate(value=0.02, low=0.0, high=0.05),
            necessity=0.02,
            sufficiency=0.03,
            horizon=[],
            effects={"read": {"optimal_constant": estimate(0.003, 0.004), "zero": estimate(0.06, 0.01)}},
            without=position_curve(2.375, 300, -0.5),
        ),
    ]
    return Case(
        label="Text hybrid",
        question="A language model on English prose: do its three recurrent memories earn their place?",
        examination=examination(
            subject="HybridStack, 3 blocks, d=96",
            sites=sites,
            routes=[attention("blocks.2.attention", 0.2)],
            base_loss=estimate(2.31, 0.02),
            constant_output_loss=3.12,
            headroom=estimate(0.35, 0.02),
            memories_off=estimate(0.18, 0.02),
            memories_share=Estimate(value=0.46, low=0.39, high=0.53),
            margin=0.01,
            local_window=8,
            base=position_curve(2.37, 300, -0.5),
        ),
        metrics=[{k: v for k, v in row.items() if k != "accuracy"} for row in metrics(floor=2.3)],
    )


def many_sites(n: int = 30) -> Case:
    sites = [
        memory(f"model.layers.{i}.linear_attention_with_a_rather_long_name.state", 0.1 + 0.1 * (i % 7))
        for i in range(n)
    ]
    return Case(label="Thirty sites", question="Which of thirty?", examination=examination(sites=sites))


def hostile() -> Case:
    site = memory(
        HOSTILE,
        because=HOSTILE,
        flags=[HOSTILE],
        measures={HOSTILE: 0.5},
        module=HOSTILE,
        verdict="inconclusive",
        comparisons=compared(**{HOSTILE: (estimate(0.1), "open")}),
    )
    record = examination(
        subject=HOSTILE,
        sites=[site, decorative("x" * 300)],
        routes=[attention(HOSTILE)],
        replay=HOSTILE,
        warnings=[HOSTILE],
        seconds={HOSTILE: 1.0},
        versions={HOSTILE: HOSTILE},
        prescriptions=[PrescriptionRecord(**dict.fromkeys(PrescriptionRecord.model_fields, HOSTILE))],
        groups=[together(HOSTILE, "b").model_copy(update={"name": HOSTILE})],
        subsets=[subset(HOSTILE, 0.5, sites=[site], groups=[])],
        controls=[ControlRecord(name=HOSTILE, seen=HOSTILE, passed=False)],
        missing=[HOSTILE],
    )
    log = [{"step": 1, f"loss {HOSTILE}": 1.0}, {"step": 2, f"loss {HOSTILE}": 0.5}]
    return Case(label=HOSTILE, question=HOSTILE, examination=record, metrics=log, config={HOSTILE: {HOSTILE: HOSTILE}})


def bare() -> Case:
    """An examination that found nothing and knows no routes."""
    return Case(
        label="Bare",
        question="Is there a memory?",
        examination=examination(
            sites=[],
            routes=[],
            routes_known=False,
            routes_off=None,
            memories_share=None,
            base=None,
            constant_output_loss=None,
            seconds={},
            versions={},
        ),
    )


def unknown_routes() -> Case:
    site = memory(verdict=None, because="", share=None, conditional=None, necessity=None, sufficiency=None)
    return Case(
        label="Foreign model",
        question="What do its memories do?",
        examination=examination(
            sites=[site], routes=[], routes_known=False, routes_off=None, memories_share=None, constant_output_loss=None
        ),
    )


def not_a_number() -> Case:
    """Every number that can be missing is NaN."""
    broken = nan_estimate()
    curve = PositionCurve(positions=[1, 2, 3], loss=[math.nan, 1.0, math.nan], n_sequences=[0, 3, 0])
    site = memory(
        effects={"read": {"optimal_constant": broken, "zero": Estimate(value=1.25, low=math.nan, high=math.nan)}},
        horizon=[HorizonPoint(window=4, effect=broken)],
        conditional=broken,
        share=broken,
        necessity=math.nan,
        sufficiency=math.inf,
        measures={"effective_dimension": math.nan},
        without=curve,
    )
    record = examination(
        sites=[site],
        routes=[],
        base=curve,
        base_loss=broken,
        headroom=broken,
        memories_off=broken,
        memories_share=broken,
        margin=math.nan,
        constant_output_loss=math.nan,
    )
    log = [{"step": 1, "train_loss": math.nan}, {"step": 2, "train_loss": math.inf}]
    return Case(label="NaN", question="What if it diverged?", examination=record, metrics=log)


def at_level(value: float, half_width: float, level: float) -> Estimate:
    return Estimate(value=value, low=value - half_width, high=value + half_width, level=level)


def compared(**effects: tuple[Estimate, str]) -> list[ComparisonRecord]:
    return [
        ComparisonRecord.model_validate({"name": name, "effect": effect, "outcome": outcome})
        for name, (effect, outcome) in effects.items()
    ]


def loads(*accuracies: float) -> list[LoadRecord]:
    return [
        LoadRecord(load=2 ** (i + 2), accuracy=accuracy, n_sequences=256 - i) for i, accuracy in enumerate(accuracies)
    ]


def clock(name: str = "blocks.0.memory") -> SiteRecord:
    effects = {"optimal_constant": estimate(0.4), "position_constant": estimate(0.01, 0.01), "zero": estimate(0.6)}
    return memory(
        name,
        verdict="clock",
        because="a constant for each position does as well: it tells the time, not the content",
        effects={"read": effects | {"position_mean": estimate(0.2), "random_directions": estimate(0.3)}},
        comparisons=compared(
            optimal_constant=(at_level(0.4, 0.07, 0.99), "above"),
            position_constant=(at_level(0.01, 0.02, 0.9917), "below"),
        ),
        share=Estimate(value=0.1, low=0.05, high=0.15),
    )


def starved(name: str = "blocks.1.memory") -> SiteRecord:
    return decorative(
        name,
        verdict="starved",
        because="not missed, the answer is not stored, and no gradient could teach it to be",
        probe=ProbeRecord(gain=estimate(0.01, 0.02), shuffled=estimate(-0.01, 0.01), n_answers=2048),
        patching=PatchingRecord(at=24, denoise=Estimate(value=0.01, low=-0.02, high=0.04), noise=None),
        measures={"gradient_share": 0.0004, "gate_mean": 0.006},
    )


def saturated(name: str = "blocks.2.memory") -> SiteRecord:
    return memory(
        name,
        verdict="saturated",
        because="used at a small load, and full: accuracy falls as more is to be held",
        measures={"state_share": 0.93},
        comparisons=compared(
            optimal_constant=(at_level(3.1, 0.2, 0.99), "above"), at_lowest_load=(at_level(2.2, 0.1, 0.99), "above")
        ),
        probe=ProbeRecord(gain=estimate(1.2, 0.1), shuffled=estimate(0.0, 0.01), n_answers=2048),
        patching=PatchingRecord(
            at=24,
            denoise=Estimate(value=0.62, low=0.55, high=0.7),
            noise=Estimate(value=0.58, low=0.5, high=0.66),
        ),
    )


def together(*names: str) -> SiteRecord:
    return memory(
        "all memories",
        role="group",
        module=f"{len(names)} sites",
        members=list(names),
        horizon=[],
        horizon_method="none",
        verdict="load-bearing (sole)",
        measures={},
        without=None,
    )


def subset(name: str, share: float | None, **changes) -> SubsetRecord:
    fields = {
        "name": name,
        "n_sequences": 480,
        "share": share,
        "base_loss": estimate(0.3),
        "headroom": estimate(3.0),
        "margin": 0.06,
        "memories_share": estimate(0.9),
        "sites": [memory("blocks.2.memory", 2.4)],
        "groups": [together("blocks.0.memory", "blocks.2.memory")],
    }
    return SubsetRecord(**(fields | changes))


def complete() -> Case:
    """Everything that a record can hold."""
    names = ("blocks.0.memory", "blocks.1.memory", "blocks.2.memory")
    record = examination(
        sites=[clock(names[0]), starved(names[1]), saturated(names[2])],
        groups=[together(*names)],
        subsets=[subset("demanding", 0.052), subset("lowest load", 0.31), subset("my own", None, sites=[], groups=[])],
        loads=loads(0.99, 0.93, 0.71, 0.42),
        controls=[
            ControlRecord(name="identity", seen="6 hooks that change nothing: 0 nats", passed=True),
            ControlRecord(name="shuffled reads, blocks.2.memory", seen="a probe gains 0.100 nats", passed=False),
        ],
        n_tuning=128,
        look=2,
        looks=3,
        missing=["horizon of blocks.1.memory: interrupted", "resample of blocks.2.memory: out of time"],
        base_loss=at_level(0.011, 0.003, 0.9877),
        prescriptions=[prescription().model_copy(update={"command": "mnemoscope train RECIPE --steps 3000 --out OUT"})],
    )
    return Case(label="Everything", question="What can be told?", examination=record, metrics=metrics())


def before_these_fields(record: Examination) -> str:
    """The JSON that the first release would have written."""

    def stripped(value):
        if isinstance(value, dict):
            return {key: stripped(item) for key, item in value.items() if key not in ADDED}
        return [stripped(item) for item in value] if isinstance(value, list) else value

    return json.dumps(stripped(json.loads(record.model_dump_json())))


def old_record() -> Case:
    """A case read from a record of the first release."""
    old = Examination.model_validate_json(before_these_fields(after().examination))
    return Case(label="Old", question="Does it still draw?", examination=old)


def every_verdict() -> Case:
    sites = [
        decorative(f"memory.{i}", verdict=verdict, required_sequences=4200)
        for i, verdict in enumerate(get_args(Verdict))
    ]
    return Case(label="All", question="One of each?", examination=examination(sites=sites))


EDGES = [bare, unknown_routes, not_a_number, many_sites, hostile, every_verdict, complete, old_record]
