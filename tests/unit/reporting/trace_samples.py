"""Traces as they come out of the instrument: of a text, of a task, and a hostile one."""

from mnemoscope.runs.trace import Address, Trace, TracedSite

HOSTILE = '"><script>alert(1)</script>\u202e$=1'


def text(**changes) -> Trace:
    first = TracedSite(
        name="blocks.0.memory",
        losses=[3.0, 1.0, 0.5, 2.25],
        written=[1.0, 0.5, 0.25, 2.0],
        read=[0.1, 0.2, 0.3, 0.4],
        addresses=[[], [Address(at=0, weight=1.0)], [Address(at=1, weight=0.75)], [Address(at=0, weight=0.5)]],
        n_addresses=3,
    )
    second = TracedSite(
        name="blocks.1.memory", losses=[1.0, 1.0, 1.0, 2.0], read=[1.0] * 4, unmeasured={"written": "it shows no state"}
    )
    together = TracedSite(name="(memories)", losses=[3.5, 1.0, 1.0, 2.5], members=[first.name, second.name])
    fields = {
        "subject": "a run, step 10",
        "source": "sequence 0 of the test split",
        "command": "mnemoscope trace runs/text",
        "replaced_by": "optimal_constant",
        "n_calibration": 64,
        "is_text": True,
        "next_token": True,
        "inputs": ["t", "h", "e", "_"],
        "targets": ["h", "e", "_", "c"],
        "losses": [1.0, 1.0, 1.0, 2.0],
        "sites": [first, second, together],
    }
    return Trace(**{**fields, **changes})


def hidden() -> Trace:
    """A task that asks once."""
    site = TracedSite(name="memory", losses=[None, None, 3.5])
    return text(
        is_text=False,
        next_token=False,
        inputs=["k1", "v2", "k1"],
        targets=[None, None, "v2"],
        losses=[None, None, 0.5],
        sites=[site],
    )


def hostile() -> Trace:
    site = TracedSite(name=HOSTILE, losses=[3.0, 1.0, 0.5, 2.25], unmeasured={"read": HOSTILE})
    words = [HOSTILE] * 4
    return text(subject=HOSTILE, source=HOSTILE, inputs=words, targets=words, sites=[site], warnings=[HOSTILE])
