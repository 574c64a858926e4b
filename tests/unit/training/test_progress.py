import io
import re

import pytest
from rich.console import Console

from mnemoscope.tasks import MqarConfig, TextConfig, ThreeMoonsConfig, build_task
from mnemoscope.training import progress, train
from mnemoscope.training.progress import Display, Stopwatch, bounds
from tests.unit.training.small import CONFIG, SmallTask, small_model


def test_plain_lines_where_there_is_no_screen(capfd: pytest.CaptureFixture[str]):
    train(small_model(), SmallTask(), CONFIG)
    out, err = capfd.readouterr()
    assert out == ""
    bounded, *lines = err.splitlines()
    assert bounded == "nats per scored token: chance 2.3979, without history 0.0000, floor 0.0000"
    assert len(lines) == 5  # one for every evaluation
    form = (
        r" 8/40   loss \d\.\d{4}   accuracy \d\.\d{4}   validation loss \d\.\d{4}   validation accuracy \d\.\d{4}"
        r"   [\d,]+ tokens/s   0:00:0\d left"
    )
    assert re.fullmatch(form, lines[0])
    assert lines[-1].startswith("40/40   loss")


def test_quiet_is_quiet(capfd: pytest.CaptureFixture[str]):
    train(small_model(), SmallTask(), CONFIG, progress=False)
    assert capfd.readouterr() == ("", "")


def test_lines_come_every_few_seconds_without_evaluations(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    display = Display(1000, shown=True)
    display.update(7, {"loss": 1.0, "bits_per_byte": 1.4427, "learning_rate": 0.1}, 12345.6, 3725.0)
    expected = "   7/1000   loss 1.0000   bits per byte 1.4427   12,346 tokens/s   1:02:05 left\n"
    assert capfd.readouterr().err == expected


def test_a_bar_where_there_is_a_screen(monkeypatch: pytest.MonkeyPatch):
    screen = io.StringIO()

    def console(stderr: bool, quiet: bool) -> Console:
        return Console(file=screen, force_terminal=True, width=200, quiet=quiet)

    monkeypatch.setattr(progress, "Console", console)
    with Display(40, shown=True) as display:
        display.start_at(10)
        display.update(20, {"loss": 1.5, "accuracy": 0.25, "grad_norm": 1.0}, 1000.0, 5.0)
        display.update(30, {"loss": 1.25, "accuracy": 0.5, "validation_loss": 1.125}, 2000.0, 5.0)
        display.say("a word")
    text = re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", screen.getvalue())
    assert "30/40 loss 1.2500   accuracy 0.5000   2,000 tokens/s" in text
    assert "30/40   loss 1.2500   accuracy 0.5000   validation loss 1.1250   2,000 tokens/s   0:00:05 left" in text
    assert "a word" in text
    assert "grad" not in text


def test_tokens_per_second_are_those_of_training_alone():
    watch = Stopwatch(earlier_seconds=100.0)
    watch.count(300, 0.1)
    watch.count(300, 0.2)
    read = watch.read()
    assert read["tokens_per_second"] == pytest.approx(2000.0)
    assert 100.0 < read["seconds"] < 160.0
    watch.count(10, 1.0)
    assert watch.read()["tokens_per_second"] == pytest.approx(10.0)


def test_a_loss_is_shown_beside_what_it_is_held_against():
    task = build_task(MqarConfig(vocab_size=64, length=32, n_pairs=4))
    assert bounds(task) == "nats per scored token: chance 3.4657, without history 3.4657, floor 0.0000"
    assert "floor" not in bounds(build_task(TextConfig(length=8)))
    assert bounds(build_task(ThreeMoonsConfig(length=8))) == ""
