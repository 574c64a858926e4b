"""Exporting a run with memories folded or deleted and windows shortened: what is left, and what is refused."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from mnemoscope.examination import Budget
from mnemoscope.examination.judgement.prescription import prescribe
from mnemoscope.examination.subject.losses import NextTokenLoss, score
from mnemoscope.experiments import changing
from mnemoscope.experiments.changing import Change, ChangeConfig, changed_run, changes_of, prescribed
from mnemoscope.experiments.exporting import EXPORT, Exported, export_run
from mnemoscope.experiments.held_out import Data, of_task
from mnemoscope.memories import Attention
from mnemoscope.models import Folded, Stack
from mnemoscope.runs import RunDirectory, SiteRecord, read_record
from mnemoscope.training import load_run
from tests.unit.experiments.exported_runs import BYTES, trained
from tests.unit.reporting.samples import decorative, examination, memory

BANK, MEMORY, ROUTE = "blocks.0.mixer.beside", "blocks.2.mixer", "blocks.1.mixer"
LAYOUT = "attention(window=8) | bank(n_slots=5), attention(convolution=3), gated_delta(n_heads=2), lstm"
SITES = [decorative(BANK, verdict="constant-bias"), decorative(MEMORY), memory("blocks.3.mixer")]
FEW = {"fit_steps": 3}
ALL = ChangeConfig(changes=changes_of([BANK, f"{MEMORY}=delete"], [f"{ROUTE}=4"]), **FEW)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = trained(tmp_path_factory.mktemp("runs") / "a", BYTES, LAYOUT)
    examined(folder, SITES)
    return folder


@pytest.fixture(scope="module")
def out(run: Path) -> Path:
    """The run, changed in every way, as a folder."""
    export_run(run, run.parent / "out", change=ALL)
    return run.parent / "out"


def examined(folder: Path, sites: list[SiteRecord], margin: float = 10.0) -> None:
    prescriptions = [row for site in sites for row in prescribe(site)]
    RunDirectory.open(folder).write_examination(
        examination(sites=sites, margin=margin, n_calibration=16, n_test=16, prescriptions=prescriptions)
    )


@contextmanager
def hooked(model: nn.Module, hooks: dict[str, Any]) -> Iterator[None]:
    """Outputs of modules replaced by hand, with no part of the examination."""
    with ExitStack() as stack:
        for path, hook in hooks.items():
            stack.callback(model.get_submodule(path).register_forward_hook(hook).remove)
        yield


def cut_to(window: int) -> Any:
    return lambda module, args, output: (module.windowed(args[0], window), output[1])


def nothing(_module: nn.Module, _args: Any, output: Any) -> Any:
    return (torch.zeros_like(output[0]), output[1])


def fixed(constant: Tensor) -> Any:
    return lambda _module, _args, output: constant.expand_as(output)


def tokens_of(length: int = 32) -> Tensor:
    return torch.randint(256, (3, length), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_what_is_exported_is_the_run_under_the_same_interventions(run: Path, out: Path):
    assert read_record(out / EXPORT, Exported).largest_difference <= 1e-5
    original, loaded = load_run(run).model.eval(), AutoModelForCausalLM.from_pretrained(out)
    vector = changed_run(run, ALL).edits[1].intervention.value
    by_hand = {ROUTE: cut_to(4), MEMORY: nothing, f"{BANK}.inner.read": fixed(vector)}
    with hooked(original, by_hand):
        wanted = original(tokens_of())
    torch.testing.assert_close(loaded(tokens_of()).logits, wanted, rtol=0, atol=1e-5)
    assert not torch.allclose(wanted, original(tokens_of()), atol=1e-4)


@torch.no_grad()
def test_it_is_a_hugging_face_model_with_a_bounded_cache(run: Path, out: Path, tmp_path: Path):
    AutoModelForCausalLM.from_pretrained(out).save_pretrained(tmp_path / "again")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    greedy = {"max_new_tokens": 24, "do_sample": False, "return_dict_in_generate": True}
    made = model.generate(tokens_of(9), **greedy)
    assert torch.equal(made.sequences, model.generate(tokens_of(9), use_cache=False, **greedy).sequences)
    ((_, state),) = made.past_key_values.streams
    assert state.blocks[0].beside == (None,)
    assert state.blocks[2] == (None,)
    assert state.blocks[1].k.shape[2] == 4
    assert model.stack.state_bytes(1, 10) == model.stack.state_bytes(1, 10_000)
    assert load_run(run).model.state_bytes(1, 10) < load_run(run).model.state_bytes(1, 10_000)


@torch.no_grad()
def test_the_record_says_what_it_costs_and_saves(run: Path, out: Path):
    record = read_record(out / EXPORT, Exported).changes
    assert record is not None
    before, after = load_run(run), AutoModelForCausalLM.from_pretrained(out).stack
    held_out = of_task(before.task, Data(seed=before.recipe.train.seed), Budget(n_calibration=16, n_test=16))
    losses = [
        torch.cat([score(NextTokenLoss(), model.eval(), batch).per_sequence for batch in held_out.test]).double()
        for model in (before.model, after)
    ]
    assert record.loss_before.value == pytest.approx(float(losses[0].mean()), abs=1e-6)
    assert record.loss_after.value == pytest.approx(float(losses[1].mean()), abs=1e-6)
    assert record.difference.value == pytest.approx(float((losses[1] - losses[0]).mean()), abs=1e-6)
    assert record.difference.value == pytest.approx(sum(made.difference.value for made in record.changes), abs=1e-6)
    assert record.difference.low < record.difference.value < record.difference.high
    counted = [sum(parameter.numel() for parameter in model.parameters()) for model in (before.model, after)]
    assert record.parameters == tuple(counted)
    assert record.parameter_bytes == tuple(4 * n for n in counted)
    assert record.state_bytes == (before.model.state_bytes(1, 32), after.state_bytes(1, 32))
    assert min(record.decoded_per_second) > 0
    assert [(made.site, made.replaced_by) for made in record.changes] == [
        (ROUTE, "window"),
        (BANK, "vector"),
        (MEMORY, "nothing"),
    ]
    page = (out / "README.md").read_text(encoding="utf-8")
    assert f"| `{BANK}` | constant-bias | vector | {record.changes[1].difference} |" in page
    left = "folded(form='sigmoid_after'), attention(window=4, convolution=3), folded(form='nothing'), lstm"
    assert f"attention(window=8) \\| {left}" in page


@pytest.mark.long
def test_a_clock_bounds_the_length(run: Path, tmp_path: Path):
    examined(run, [decorative(MEMORY, verdict="clock")])
    try:
        change = ChangeConfig(changes=changes_of([MEMORY], []), **FEW)
        exported = export_run(run, tmp_path / "out", change=change)
    finally:
        examined(run, SITES)
    assert exported.changes is not None
    assert exported.changes.changes[0].replaced_by == "vector for each position"
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.config.max_position_embeddings == 32
    with pytest.raises(ValueError, match="each of 32 positions, got 33 tokens"):
        model(tokens_of(33))


def test_a_model_that_is_not_the_intervened_one_is_not_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def off_by_little(stack: Stack, fit: Any) -> Stack:
        folded = right(stack, fit)
        with torch.no_grad():
            folded.head.weight.add_(1e-3)
        return folded

    right = changing.folded_stack
    monkeypatch.setattr(changing, "folded_stack", off_by_little)
    with pytest.raises(ValueError, match=r"must have the run's logits to .*, got a difference"):
        export_run(run, tmp_path / "out", change=ChangeConfig(changes=changes_of([MEMORY], []), **FEW))
    assert not list(tmp_path.iterdir())


def test_what_costs_more_than_the_margin(run: Path, tmp_path: Path):
    change = changes_of([f"{MEMORY}=delete"], [])
    examined(run, SITES, margin=-10.0)
    try:
        with pytest.raises(ValueError, match=r"less than the margin of -10\.000 nats.*--even-if-worse"):
            export_run(run, tmp_path / "out", change=ChangeConfig(changes=change, **FEW))
        with pytest.raises(ValueError, match="every prescribed change costs more than the margin"):
            export_run(run, tmp_path / "out", change=ChangeConfig(**FEW))
        assert not list(tmp_path.iterdir())
        kept = changed_run(run, ChangeConfig(changes=change, even_if_worse=True, **FEW))
    finally:
        examined(run, SITES)
    assert not kept.record.accepted
    assert kept.record.changes[0].replaced_by == "vector for the output"


def test_what_is_prescribed_is_done_as_far_as_it_is_as_good(run: Path, monkeypatch: pytest.MonkeyPatch):
    found = prescribed(RunDirectory.open(run).read_examination())
    assert found == (Change(site=BANK, kind="fold"), Change(site=MEMORY, kind="delete"))
    assert [made.site for made in changed_run(run, ChangeConfig(**FEW)).record.changes] == [BANK, MEMORY]

    def dear_bank(model: Stack, loss: Any, test: Any) -> Tensor:
        return measured(model, loss, test) + 20 * isinstance(model.get_submodule(f"{BANK}.inner"), Folded)

    measured = changing.losses
    monkeypatch.setattr(changing, "losses", dear_bank)
    left = changed_run(run, ChangeConfig(**FEW))
    assert [made.site for made in left.record.changes] == [MEMORY]
    assert left.record.left == [BANK]
    assert not isinstance(left.model.get_submodule(f"{BANK}.inner"), Folded)
    with pytest.raises(ValueError, match=r"prescribes no folding and no deletion \(blocks\.3\.mixer load-bearing"):
        prescribed(examination(sites=[memory("blocks.3.mixer")]))


@pytest.mark.parametrize(
    ("fold", "window", "message"),
    [
        ([], [f"{MEMORY}=4"], r"only attention keeps its tokens.*blocks\.2\.mixer is GatedDelta"),
        ([], ["blocks.0.mixer.memory=8"], r"shorter than now \(8 tokens\), got 8"),
        ([], [f"{ROUTE}=0"], r"at least 1 token and shorter than now \(all tokens\), got 0"),
        ([], ["nowhere=4"], r"no site is called 'nowhere'; sites: .*blocks\.1\.mixer"),
        (["blocks.3.mixer"], [], r"load-bearing \(sole\), and only constant-bias"),
    ],
)
def test_what_cannot_be_changed(run: Path, tmp_path: Path, fold: list[str], window: list[str], message: str):
    with pytest.raises(ValueError, match=message):
        export_run(run, tmp_path / "out", change=ChangeConfig(changes=changes_of(fold, window), **FEW))
    assert not list(tmp_path.iterdir())


def test_changes_in_words():
    assert changes_of(["a", "b=constant", "c=delete"], ["d=16"]) == (
        Change(site="d", kind="window", window=16),
        Change(site="a", kind="fold"),
        Change(site="b", kind="fold"),
        Change(site="c", kind="delete"),
    )
    for fold, window, message in (
        (["a=gone"], [], "--fold must be SITE"),
        ([], ["a"], "--window must be SITE=TOKENS"),
        ([], ["a=few"], "--window must be SITE=TOKENS"),
        (["a"], ["a=3"], "a is named twice"),
    ):
        with pytest.raises(ValueError, match=message):
            changes_of(fold, window)


def test_a_run_that_was_not_examined(tmp_path: Path):
    folder = trained(tmp_path / "b", BYTES, "attention, lstm", steps=1)
    with pytest.raises(ValueError, match="has not been examined, so it is not known what may go"):
        export_run(folder, tmp_path / "out", change=ChangeConfig(changes=changes_of([], ["blocks.0.mixer=2"])))


def test_a_drawn_window_stays_within_the_shorter_one(tmp_path: Path):
    folder = trained(tmp_path / "c", BYTES, "attention(window=8, smallest_window=6), lstm", steps=1)
    examined(folder, [memory("blocks.1.mixer")])
    left = changed_run(folder, ChangeConfig(changes=changes_of([], ["blocks.0.mixer=4"])))
    attention = left.model.get_submodule("blocks.0.mixer")
    assert isinstance(attention, Attention)
    assert (attention.config.window, attention.config.smallest_window) == (4, 4)
