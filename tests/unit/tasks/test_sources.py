"""The benchmark of tasks: ours and the ways of the sources give sequences of one kind, and broken ones are seen."""

import numpy as np
import pytest

from benchmarks.rivals import mad_lab, seq_icl, zoology
from benchmarks.tasks import CASES, Case, drawn
from mnemoscope.tasks import TASKS, RegBench, RegBenchConfig, build_task, task_rng
from mnemoscope.tasks.automata import MAX_OUT_DEGREE, MAX_STATES
from mnemoscope.tasks.options import config_of

WAYS = [*zoology.generators(), *mad_lab.generators()]


def test_every_task_can_be_timed():
    assert set(CASES) <= set(TASKS)
    for kind in TASKS:
        assert config_of(kind, CASES.get(kind, Case()).options).kind == kind


@pytest.mark.parametrize("way", WAYS, ids=lambda way: " ".join((way.kind, *way.options)))
def test_both_ways_obey_the_format(way):
    config = config_of(way.kind, way.options)
    ours, theirs = drawn(build_task(config), 8, way.split), way.generate(config, 8, 0)
    for inputs, targets in (ours, theirs):
        way.check(config, inputs, targets)
        wrong = targets.copy()
        row, position = np.argwhere(wrong >= 0)[0]
        wrong[row, position] = (wrong[row, position] + 1) % config.vocab_size
        with pytest.raises(ValueError, match="not the same kind of sequences"):
            way.check(config, inputs, wrong)


def test_both_ways_minimise_automata_alike():
    config = RegBenchConfig(n_environments=20, n_held_out=1, min_strings=3, max_strings=3)
    sequences, raw, smallest = seq_icl.regbench(config, 20, 0)
    seq_icl.check_supports(sequences, raw, smallest)
    with pytest.raises(ValueError, match="another number of states"):
        seq_icl.check_supports(sequences, raw, [{**edges, MAX_STATES + MAX_OUT_DEGREE: {}} for edges in smallest])
    batch, truth = RegBench(config).draw(task_rng(0, "train", 0), 20, "train")
    seq_icl.check_ours(truth, batch.inputs, batch.targets)
    with pytest.raises(ValueError, match="a letter that cannot come"):
        seq_icl.check_ours(truth, batch.inputs, np.where(batch.targets >= 0, 0, batch.targets))
