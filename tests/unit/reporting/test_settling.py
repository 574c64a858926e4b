import pytest

from mnemoscope.reporting.settling import settling
from mnemoscope.runs import SiteRecord


def site(**measures: float) -> SiteRecord:
    named = {f"loop_{name}": value for name, value in measures.items()}
    return SiteRecord(name="blocks.2.mixer", role="memory", module="ContractiveWorkspace", effects={}, measures=named)


@pytest.mark.parametrize(
    ("measures", "says"),
    [
        ({}, ""),
        ({"norm": 0.5}, ""),
        (
            {"certificate": 0.9, "norm": 0.71, "lyapunov": -0.6931471805599453},
            "Its loop is certified to settle: a step multiplies distances by 0.9 at most. The largest factor found on "
            "these data is 0.71; its Lyapunov exponent is -0.6931, so that a step leaves 50 % of a small deviation.",
        ),
        (
            {"certificate": 0.9, "norm": 0.9},
            "Its loop is certified to settle: a step multiplies distances by 0.9 at most. The largest factor found on "
            "these data is 0.9.",
        ),
        (
            {"certificate": 0.9, "norm": 1.2, "lyapunov": 0.05},
            "Its certificate is refuted: a step of its loop should multiply distances by 0.9 at most, and does by 1.2; "
            "its Lyapunov exponent is 0.05, so that small deviations grow: the loop does not settle.",
        ),
    ],
)
def test_a_loop_in_words(measures: dict[str, float], says: str):
    assert settling(site(**measures)) == says
