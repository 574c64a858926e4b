import math
from typing import get_args

import pytest

from mnemoscope.reporting.glossary import EFFECTS, INTERVENTIONS, MEANINGS, MEASURES
from mnemoscope.reporting.summary import at_local_window, headline, primary, sentence
from mnemoscope.runs.examination import InterventionName, Verdict
from tests.unit.reporting import samples
from tests.unit.reporting.samples import decorative, estimate, examination, memory


def test_every_verdict_has_a_meaning_and_a_sign_of_its_own():
    assert set(MEANINGS) == set(get_args(Verdict))
    assert len({meaning.symbol for meaning in MEANINGS.values()}) == len(MEANINGS)


def test_load_bearing_is_told_against_the_headroom():
    assert sentence(memory(), examination()) == (
        "Replacing its read by the best constant costs 3.10 nats [3.00, 3.20] of the 3.20 nats of headroom."
    )


def test_decorative_is_told_against_the_margin():
    assert sentence(decorative(), examination()) == (
        "Replacing its read by the best constant costs 0.004 nats [-0.002, 0.010], within the margin of 0.064 nats."
    )


@pytest.mark.parametrize(
    ("site", "told"),
    [
        (memory(verdict="load-bearing (shared)", share=estimate(0.41)), "Its Shapley share of the headroom is 41 %."),
        (decorative(verdict="redundant", conditional=estimate(1.5)), "With everything else off, it is worth 1.50"),
        (decorative(verdict="constant-bias"), "Zeroing it costs 0.011 [0.003, 0.019] nats: it is worth one vector."),
        (memory(verdict="local-only"), "Keeping only its last 4 tokens costs 5.27 [5.21, 5.33] nats"),
        (decorative(verdict="decorative (scale)"), "A random constant of the same size costs 0.012"),
        (memory(verdict="not-demanded"), "Distant history is worth 3.20 [3.11, 3.29] nats"),
        (memory(verdict="untrained"), "The model's loss is 0.011 [0.008, 0.014] nats, a constant output's 3.47 nats"),
        (
            memory(verdict="inconclusive", required_sequences=4200),
            "About 4,200 sequences would decide; 1,024 were used.",
        ),
    ],
)
def test_other_verdicts_name_the_number_they_rest_on(site, told):
    assert told in sentence(site, examination())


def test_clock_starved_and_saturated_name_what_they_rest_on():
    told = sentence(samples.clock(), examination())
    assert "A constant for each position costs 0.010 [0.000, 0.020] nats: it tells the time." in told
    told = sentence(samples.starved(), examination())
    assert "A probe of the answer gains 0.010 [-0.010, 0.030] nats from it" in told
    assert "Its share of the gradient is 0.0004. Its gate is open by 0.006." in told
    told = sentence(samples.saturated(), samples.complete().examination)
    assert "Accuracy falls from 99 % with 4 to remember to 42 % with 32." in told
    assert "Its state uses 93 % of the rank it can have." in told
    for site in (samples.clock(), samples.starved(), samples.saturated()):
        plain_site = site.model_copy(update={"effects": memory().effects, "probe": None, "measures": {}})
        assert sentence(plain_site, examination()).startswith("Replacing its read by the best constant costs 3.10")


def test_a_group_is_told_of_all_its_sites():
    told = sentence(samples.together("a", "b", "c"), examination())
    assert told.startswith("Replacing the reads of its 3 sites by the best constants costs 3.10 nats")


def test_an_unfinished_examination_says_so_in_its_headline():
    told = headline(examination(missing=["the horizon of blocks.1.memory"]))
    assert told == "The memory is load-bearing (sole). The examination is unfinished."


def test_measures_have_the_words_of_the_records():
    from mnemoscope.examination.measures import MEASURES as MEASURED

    assert MEASURED == MEASURES


def test_every_intervention_and_deciding_effect_has_words():
    from mnemoscope.examination.judgement.verdict import DECIDING

    assert set(INTERVENTIONS) == set(get_args(InterventionName))
    assert set(EFFECTS) >= set(DECIDING)
    assert len(set(EFFECTS.values())) == len(EFFECTS)


def test_nothing_is_invented_where_nothing_was_measured():
    assert sentence(memory(effects={}, because=""), examination()) == "Its effect was not measured."
    assert sentence(memory(effects={}, because="the budget ran out"), examination()) == "the budget ran out"
    told = sentence(samples.not_a_number().examination.sites[0], samples.not_a_number().examination)
    assert told == "Replacing its read by the best constant gave no number."
    no_headroom = examination(headroom=samples.nan_estimate(), margin=math.nan)
    assert sentence(memory(), no_headroom).endswith("costs 3.10 nats [3.00, 3.20].")


def test_headline_counts_verdicts():
    assert headline(examination()) == "The memory is load-bearing (sole)."
    assert headline(samples.text().examination) == "3 memories: 1 load-bearing (shared), 1 constant-bias, 1 decorative."
    assert headline(examination(sites=[])) == "No memory was found in this model."
    assert headline(examination(sites=[memory(), memory("b")])) == "Both memories are load-bearing (sole)."
    assert headline(samples.unknown_routes().examination) == "One memory, effects measured, no verdict."
    assert "1 without verdict" in headline(examination(sites=[memory(), memory("b", verdict=None)]))


def test_read_speaks_before_contribution():
    assert primary(memory()) == "read"
    assert primary(memory(effects={"contribution": {"zero": estimate(1.0)}})) == "contribution"
    assert primary(memory(effects={})) is None


def test_horizon_is_read_at_the_local_window_or_not_at_all():
    cut = at_local_window(memory(), examination())
    assert cut is not None
    assert cut.value == pytest.approx(5.27)
    assert at_local_window(memory(), examination(local_window=5)) is None
