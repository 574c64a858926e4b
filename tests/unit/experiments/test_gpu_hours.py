from dataclasses import replace

import pytest

from mnemoscope.experiments.gpu_hours import DEVICE, TrainingEstimate, estimates, in_words, planned, together
from mnemoscope.experiments.mosaics.language import LanguageStudy
from mnemoscope.experiments.mosaics.three_moons import THREE_MOONS
from mnemoscope.experiments.planning import Range
from mnemoscope.experiments.published import EXPERIMENTS
from mnemoscope.experiments.reproducing import Experiment, Measured

TINY = LanguageStudy(depths=(1,), length=16, d_model=8, n_heads=1, steps=50, batch_size=2)


def of(study: LanguageStudy) -> list[TrainingEstimate]:
    experiment: Experiment[LanguageStudy] = Experiment(
        name="tiny",
        what="-",
        source="-",
        claims=(),
        sizes={"paper": study},
        measure=lambda settings, seed: Measured(figures={}),
        trainings=lambda settings: [planned(settings.recipe(arm, 1)) for arm in ("mosaic", "transformer")],
    )
    return list(estimates(experiment, "paper"))


def test_hours_grow_with_steps_and_batch():
    mosaic, transformer = of(TINY)
    assert (mosaic.name, transformer.name) == ("stories-1-mosaic", "stories-1-transformer")
    assert 0 < mosaic.hours.low < mosaic.hours.high
    longer, wider = of(replace(TINY, steps=500))[0], of(replace(TINY, batch_size=64))[0]
    assert longer.hours.low == pytest.approx(10 * mosaic.hours.low)
    assert longer.peak_bytes == mosaic.peak_bytes < wider.peak_bytes
    assert wider.hours.low > 4 * mosaic.hours.low


def test_networks_of_the_moons_are_counted_too():
    """The products of one step alone, of pairs that are seen: two of 6 channels forward, and five backward."""
    found = list(estimates(THREE_MOONS, "paper"))
    settings = THREE_MOONS.sizes["paper"].training
    assert [each.name for each in found] == ["1 head", "3 heads"]
    pairs = settings.batch_size * settings.length**2 / 2
    seconds = settings.steps * 7 * 2 * pairs * 6 / DEVICE.flops["float32"]
    assert all(each.hours.high * 3600 > seconds for each in found)
    assert all(each.hours.low * 3600 < 100 * seconds for each in found)


ONE_GPU = ("mosaic-stories", "mosaic-prose", "mosaic-profiles", "mosaic-examined", "mosaic-v2", "mosaic-v2-levels")


@pytest.mark.parametrize(
    "name", ["mosaic-induction", *(pytest.param(name, marks=pytest.mark.long) for name in ONE_GPU)]
)
def test_one_gpu_holds_every_training_of_the_published_size(name: str):
    found = list(estimates(EXPERIMENTS[name], "paper"))
    assert found
    assert [str(each) for each in found if not each.fits] == []


def test_an_experiment_that_names_no_trainings_gives_nothing():
    assert list(estimates(EXPERIMENTS["perpgrad"], "small")) == []


def test_in_words():
    assert in_words(Range(7.81, 19.26)) == "7.8 to 19 GPU hours"
    assert in_words(Range(0.01, 0.5)) == "0.6 to 30 GPU minutes"
    assert in_words(Range(1e-6, 1e-3)) == "less than a GPU minute"
    small = TrainingEstimate(name="a", hours=Range(1, 2), peak_bytes=25 * 10**9)
    assert str(small) == "a: 1 to 2 GPU hours, 25 GB at its peak"
    large = replace(small, peak_bytes=128 * 10**9)
    assert str(large) == "a: 1 to 2 GPU hours, 128 GB at its peak, more than the 80 GB of one"
    assert together([small, large]) == Range(2, 4)
