"""The control in context: greedy decoding against a stream, and a figure for every claim."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mnemoscope.experiments.geometry.in_context import (
    IN_CONTEXT,
    InContext,
    build_in_context,
    decoded_in_context,
    drawn_in_context,
    in_context,
)
from mnemoscope.experiments.published import find_experiment
from mnemoscope.tasks.in_context_path_star import InContextPathStar

TINY = InContext(
    layers=1, width=16, heads=2, batch_size=4, steps=2, warmup_steps=1, every=1, test_sequences=6, reverse_by=1
)


@torch.no_grad()
def test_greedy_answers_are_those_of_a_stream():
    for options in ({}, {"target": "reverse"}):
        task = InContextPathStar(replace(TINY.task, **options))
        model = build_in_context(TINY, task, 0)
        inputs, _ = drawn_in_context(task, 3, "test", 0, 0)
        said, start = decoded_in_context(model, task, inputs), task.answers.start
        for sequence, answers in zip(inputs, said, strict=True):
            logits, state = model.prefill(sequence[None, : start + 1])
            token, expected = logits[:, -1].argmax(-1), list[int]()
            for _ in answers:
                expected.append(int(token))
                if len(expected) < len(answers):
                    logits, state = model.step(token, state)
                    token = logits.argmax(-1)
            assert answers.tolist() == expected


@torch.no_grad()
def test_teacherless_answers_are_read_off_at_once():
    task = InContextPathStar(replace(TINY.task, teacherless=True))
    model = build_in_context(TINY, task, 0)
    inputs, _ = drawn_in_context(task, 5, "test", 0, 0)
    assert np.array_equal(decoded_in_context(model, task, inputs), model(inputs)[:, task.answers].argmax(-1).numpy())


def test_every_claim_is_measured():
    assert find_experiment(IN_CONTEXT.name) is IN_CONTEXT
    measured = in_context(TINY, 0)
    assert {claim.figure for claim in IN_CONTEXT.claims} <= measured.figures.keys()
    assert measured == in_context(TINY, 0)
    assert list(measured.series["full: step"]) == [1, 2]
    assert measured.figures["reverse: step"] == 1
    assert measured.figures["full: v1 beside a guess"] == pytest.approx(abs(measured.figures["full: v1"] - 1 / 3))
    later = [measured.figures[f"full: forced {node}"] for node in ("v2", "leaf")]
    assert measured.figures["full: later"] == pytest.approx(np.mean(later))


def test_what_cannot_be_asked_for():
    with pytest.raises(ValueError, match=r"InContext\.reverse_by: must be between 1 and steps = 2000, got 2100"):
        replace(InContext(), reverse_by=2100)
    with pytest.raises(ValueError, match=r"InContext\.arms: must be of full, reverse, teacherless, got forward"):
        replace(InContext(), arms=("forward",))
