from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.tasks import CuedRecall, CuedRecallConfig, MaskedWords, MaskedWordsConfig, Mqar, MqarConfig, task_rng
from mnemoscope.training import evaluate
from mnemoscope.training.batches import draw
from mnemoscope.training.lessons import Episodic
from mnemoscope.training.lessons.episodic import EpisodicLesson
from mnemoscope.training.remedies import GateFloor, RemedyConfig, Treatment
from mnemoscope.training.remedies.gate_floor import EpisodeMode
from tests.unit.training.lessons.courses import RECALL, course, stack
from tests.unit.training.small import SmallModel

FOUR = CuedRecall(CuedRecallConfig(n_keys=8, n_values=4, n_pairs=6))
"""Keys 0 to 7, values 8 to 11."""


class Notes(NamedTuple):
    """The value of every key, and the newest key."""

    values: Tensor
    key: Tensor


class PerfectMemory(nn.Module):
    """Says of every key the value that followed it last; of a key that was never seen, value 8."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(9.0))

    def init_state(self, batch: int) -> Notes:
        return Notes(torch.full((batch, 8), 8), torch.zeros(batch, dtype=torch.int64))

    def prefill(self, tokens: Tensor, state: Notes | None = None) -> tuple[Tensor, Notes]:
        values, key = state or self.init_state(len(tokens))
        values, said = values.clone(), []
        for token in tokens.T:
            is_key = token < 8
            key = torch.where(is_key, token, key)
            known = values.gather(1, key[:, None]).squeeze(1)
            values.scatter_(1, key[:, None], torch.where(is_key, known, token)[:, None])
            said.append(values.gather(1, key[:, None]).squeeze(1))
        return self.scale * F.one_hot(torch.stack(said, dim=1), 12), Notes(values, key)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.prefill(tokens)[0]


class Memoryless(SmallModel):
    """Every token by itself."""

    def init_state(self, batch: int) -> tuple[()]:
        return ()

    def prefill(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return self(tokens), ()


def begun(settings: Episodic, model: nn.Module, treatments: tuple[Treatment, ...] = ()) -> EpisodicLesson:
    return settings.begin(course(model, treatments=treatments))


def test_a_perfect_memory_is_worth_what_chance_leaves():
    lesson = Episodic().begin(course(PerfectMemory(), FOUR, batch_size=64))
    figures = lesson.evaluate()
    for split in ("train", "validation"):
        assert figures[f"{split}_accuracy_memory"] == 1
        assert abs(figures[f"{split}_accuracy_reset"] - 1 / 4) < 4 * figures[f"{split}_utility_se"]
        assert figures[f"{split}_utility"] == pytest.approx(1 - figures[f"{split}_accuracy_reset"])
        # Another row has seen a key with probability 6/8, and says its value; or it says 8. Both are right by chance.
        assert abs(figures[f"{split}_specificity"] - 3 / 4) < 4 * figures[f"{split}_specificity_se"]
        assert 0.005 < figures[f"{split}_utility_se"] < 0.015  # of 2000 words with probability 1/4: .0097
    assert figures["memory_used"] == 1
    assert figures["validation_accuracy"] == 1


def test_without_a_memory_nothing_is_gained():
    model = Memoryless(vocab_size=12)
    lesson = Episodic(eval_words=200).begin(course(model, FOUR))
    figures = lesson.evaluate()
    assert figures["validation_accuracy_memory"] == figures["validation_accuracy_reset"]
    assert figures["validation_utility"] == figures["train_specificity"] == 0
    assert figures["memory_used"] == 0
    assert lesson.memory_use("validation").utility.n_scored == 216  # nine batches of 4 rows with 6 words
    assert figures.items() >= evaluate(model, FOUR, lesson.course.config, lesson.course.device).items()


def test_training_rows_are_those_that_were_trained_on():
    class Recording(Memoryless):
        seen: tuple[Tensor, ...] = ()

        def prefill(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
            self.seen = (*self.seen, tokens)
            return super().prefill(tokens, state)

    model = Recording(vocab_size=12)
    lesson = Episodic(eval_words=48).begin(course(model, FOUR))
    lesson.forward(1), lesson.forward(2)
    trained, model.seen = model.seen, ()
    lesson.memory_use("train")
    with_memory = [model.seen[0], model.seen[1], model.seen[5], model.seen[6]]  # then a reset, and another's memory
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(with_memory, trained, strict=True))
    reset, wrong = model.seen[2], model.seen[3:5]
    assert torch.equal(reset, trained[1])
    assert torch.equal(wrong[0], trained[0].roll(-1, dims=0))
    assert torch.equal(wrong[1], trained[1])


def test_a_step_is_the_episode_whole():
    model = stack("gated_delta(n_heads=2), attention(n_heads=2)")
    lesson = begun(Episodic(), model)
    for step in (1, 2):
        computed = lesson.forward(step)
        inputs, targets = draw(CuedRecall(RECALL), 0, "train", step, 4)
        assert torch.equal(computed.inputs, inputs)
        assert torch.equal(computed.targets, targets)
        assert (computed.logits - model(inputs)).abs().max().item() < 1e-9
        assert computed.again().item() == computed.loss.item()
    assert lesson.state() == {}


def test_a_memory_that_is_carried_on_goes_on():
    model = stack("gated_delta(n_heads=2), attention(n_heads=2, window=4)")
    ours, theirs = (begun(Episodic(between="carry", eval_words=24), model) for _ in range(2))
    first, second = ours.forward(1), ours.forward(2)
    both, _ = model.prefill(torch.cat([first.inputs, second.inputs], dim=1))
    assert (second.logits - both[:, 9:]).abs().max().item() < 1e-9
    first.loss.backward()
    second.loss.backward()  # the past is cut off
    theirs.set_state({name: tensor.clone() for name, tensor in ours.state().items()})
    assert torch.equal(ours.forward(3).logits, theirs.forward(3).logits)
    with pytest.raises(ValueError, match="resume the run's own lesson"):
        theirs.set_state({})
    with pytest.raises(ValueError, match="resume the run's own lesson"):
        begun(Episodic(), model).set_state(ours.state())
    # An evaluation begins empty, whatever was carried.
    assert ours.evaluate() == begun(Episodic(eval_words=24), model).evaluate()


def test_weights_are_in_the_loss_and_not_in_the_unweighted_log():
    model = stack()
    plain = begun(Episodic(storage_loss="next_token"), model)
    heavy = begun(Episodic(storage_loss="next_token", storage_weight=5.0, retrieval_weight=2.0), model)
    ones, computed = plain.forward(1), heavy.forward(1)
    unweighted, figures = plain.figures(ones), heavy.figures(computed)
    episode = CuedRecall(RECALL).episode(task_rng(0, "train", 1), 4, "train")
    logits = model(torch.from_numpy(episode.joined().inputs))
    stored = F.cross_entropy(logits[:, :5].flatten(0, 1), torch.from_numpy(episode.storage.inputs[:, 1:]).flatten())
    asked = F.cross_entropy(logits[:, 6:].flatten(0, 1), torch.from_numpy(episode.retrieval.targets).flatten())
    assert computed.loss.item() == pytest.approx(5 * stored.item() + 2 * asked.item(), rel=1e-9)
    for found in (unweighted, figures):
        assert found["storage_loss"] == pytest.approx(stored.item(), rel=1e-9)
        assert found["retrieval_loss"] == found["loss"] == pytest.approx(asked.item(), rel=1e-9)
    assert figures["storage_loss_weighted"] == pytest.approx(5 * stored.item(), rel=1e-9)
    assert figures["retrieval_loss_weighted"] == pytest.approx(2 * asked.item(), rel=1e-9)
    assert figures["accuracy"] == unweighted["accuracy"]
    assert "storage_loss" not in begun(Episodic(), model).figures(begun(Episodic(), model).forward(1))


def test_next_tokens_end_with_each_stored_text():
    task = MaskedWords(MaskedWordsConfig(text_unit="byte", text_length=8, n_storage=3, n_retrieval=2, n_masks=1))
    by_task, by_token = (
        Episodic(storage_loss=loss).begin(course(stack(vocab_size=258), task)).forward(1)
        for loss in ("task", "next_token")
    )
    assert torch.equal(by_task.targets, by_token.targets)
    assert (by_task.targets[:, :24] == -100).sum(dim=1).tolist() == [3] * 4


@pytest.mark.parametrize("detach", [False, True])
def test_answers_teach_what_to_write_unless_it_is_cut_off(detach: bool):
    model = stack()
    lesson = begun(Episodic(storage_weight=0.0, detach_write=detach), model)
    computed = lesson.forward(1)
    computed.loss.backward()
    gradient = model.embedding.weight.grad
    assert gradient is not None
    of_values = gradient[4:7].norm().item()  # values are stored and never shown in retrieval
    assert (of_values == 0) == detach
    assert gradient[:4].norm().item() > 0
    mixer: Any = model.blocks[0].mixer
    assert mixer.write_gate.weight.grad.norm().item() > 0
    whole = begun(Episodic(storage_weight=0.0), model).forward(1)
    assert torch.equal(whole.logits, computed.logits)


class Recorder(Treatment):
    """Remembers the modes in which it was run."""

    def __init__(self) -> None:
        super().__init__(GateFloor())
        self.modes: list[EpisodeMode] = []

    def set_mode(self, mode: EpisodeMode) -> None:
        self.modes.append(mode)


def test_treatments_are_told_the_phase():
    recorder = Recorder()
    lesson = begun(Episodic(), stack(), (recorder, Treatment(RemedyConfigOf())))
    computed = lesson.forward(1)
    assert recorder.modes == ["storage", "normal", "retrieval", "normal"]
    computed.again()
    assert recorder.modes == ["storage", "normal", "retrieval", "normal"] * 2


class RemedyConfigOf(RemedyConfig):
    """A remedy that does nothing."""

    def attach(self, model: nn.Module) -> Treatment:
        return Treatment(self)


def test_gates_are_floored_by_phase():
    model = stack("gated_delta(n_heads=2) | attention(n_heads=2, window=4)")
    remedy = GateFloor(floors=(0.1,), switches=(), storage_floor=0.8, retrieval_floor=0.3, floor_mode="clamp")
    treatment = remedy.attach(model)
    gates: list[float] = []
    branch: Any = model.blocks[0].mixer.memory
    branch.gate.register_forward_hook(lambda module, given, output: gates.append(output.min().item()))
    with torch.no_grad():
        model.blocks[0].mixer.fusion.mix.bias.fill_(-9.0)  # pyright: ignore
    treatment.on_step(1, 10)
    begun(Episodic(), model, (treatment,)).forward(1)
    assert gates == pytest.approx([0.8, 0.3])
    model(torch.zeros(1, 3, dtype=torch.int64))
    assert gates[2] == pytest.approx(0.1)
    treatment.detach()


def test_what_has_no_episodes_is_refused():
    with pytest.raises(ValueError, match="Episodic: needs a task of episodes, got Mqar"):
        Episodic().begin(course(stack(), Mqar(MqarConfig(vocab_size=12, length=12, n_pairs=2))))
    with pytest.raises(ValueError, match=r"Episodic: needs a model with init_state\(batch\) and prefill"):
        Episodic().begin(course(SmallModel()))
    with pytest.raises(ValueError, match=r"Episodic.between: the model's state grows with every token"):
        begun(Episodic(between="carry"), stack("attention(n_heads=2)"))
    with pytest.raises(ValueError, match=r"Episodic.storage_weight, .retrieval_weight: must be finite"):
        replace(Episodic(), retrieval_weight=0.0)
    with pytest.raises(ValueError, match=r"Episodic.eval_words: must be at least 2, got 1"):
        Episodic(eval_words=1)
