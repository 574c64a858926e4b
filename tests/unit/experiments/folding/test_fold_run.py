"""Folding a run: what is refused, what is written, and what comes back from the disk."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mnemoscope.cli.fold import Fold
from mnemoscope.examination import Budget, find_sites
from mnemoscope.experiments.examining import examine_run
from mnemoscope.experiments.fold import FOLDED, FOLDING, FoldConfig, Folding, fold_run, foldable
from mnemoscope.experiments.recipes import RECIPES, with_changes
from mnemoscope.models import Folded
from mnemoscope.runs import RunDirectory, read_record
from mnemoscope.tasks import MqarConfig
from mnemoscope.training import load_run, train, train_recipe
from tests.unit.reporting.samples import decorative, examination, memory

BANK, MEMORY = "blocks.0.mixer.memory", "blocks.1.mixer"
FEW = 4
TINY = Budget(
    n_calibration=16,
    n_test=16,
    fit_steps=1,
    joint_fit_steps=1,
    windows=(1,),
    contribution=False,
    n_resamples=200,
    looks=1,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = with_changes(
        RECIPES["recall-short-window"], layout="bank(n_slots=5) | attention, gated_delta", steps=4, seed=0
    )
    recipe = replace(
        recipe,
        model=replace(recipe.model, vocab_size=12, d_model=8),
        task=MqarConfig(vocab_size=12, length=12, n_pairs=2),
        train=replace(recipe.train, warmup_steps=0, eval_every=4, eval_sequences=8, batch_size=4),
    )
    folder = tmp_path_factory.mktemp("runs") / "a"
    train_recipe(recipe, folder, progress=False)
    sites = [decorative(BANK, verdict="constant-bias"), decorative(MEMORY), memory("blocks.2.mixer")]
    examined(folder, 10.0, sites)
    return folder


def examined(folder: Path, margin: float, sites=None) -> None:
    directory = RunDirectory.open(folder)
    sites = sites or directory.read_examination().sites
    directory.write_examination(examination(sites=sites, margin=margin, n_calibration=16, n_test=16))


@pytest.mark.parametrize(("site", "form"), [(BANK, "sigmoid_after"), (MEMORY, "silu_before")])
def test_a_folded_run_comes_back_from_the_disk(run: Path, tmp_path: Path, site: str, form: str):
    out = tmp_path / "folded"
    folding = fold_run(run, out, FoldConfig(site=site, fit_steps=FEW))
    assert folding.accepted
    assert folding == read_record(out / FOLDING, Folding)
    assert folding.parameters[1] < folding.parameters[0]
    assert folding.state_bytes[1] <= folding.state_bytes[0] + 8
    assert folding.hooked_difference < 1e-5
    before, after = load_run(run), load_run(out)
    assert after.step == before.step == 4
    assert sum(parameter.numel() for parameter in after.model.parameters()) == folding.parameters[1]
    (left,) = (module for module in after.model.modules() if isinstance(module, Folded))
    assert left.config.form == form
    losses = [mean_loss(of) for of in (before, after)]
    assert abs(losses[1] - losses[0] - folding.difference.value) < 1e-4
    assert losses[0] != losses[1]


@pytest.mark.long
def test_what_is_left_can_be_examined_and_trained(run: Path, tmp_path: Path):
    out = tmp_path / "folded"
    fold_run(run, out, FoldConfig(site=BANK, fit_steps=FEW))
    examination = examine_run(out, TINY)
    assert [site.name for site in examination.sites] == [BANK, MEMORY]
    assert examination.sites[0].effects["read"]["optimal_constant"].value == pytest.approx(0, abs=1e-3)
    left = load_run(out)
    before = left.model.get_parameter("blocks.0.mixer.memory.inner.vector.weight").detach().clone()
    train(left.model, left.task, replace(left.recipe.train, steps=2, seed=5), progress=False)
    assert not torch.equal(left.model.get_parameter("blocks.0.mixer.memory.inner.vector.weight"), before)
    assert train_recipe(left.recipe, out, resume=True, progress=False).step == 4


def test_a_deleted_memory_is_gone(run: Path, tmp_path: Path):
    out = tmp_path / "folded"
    folding = fold_run(run, out, FoldConfig(site=MEMORY, delete=True, fit_steps=FEW))
    assert folding.way == "zero"
    model = load_run(out).model
    assert not list(model.get_submodule(MEMORY).parameters())
    tokens = torch.zeros(2, 12, dtype=torch.int64)
    assert [site.name for site in find_sites(model, lambda: model(tokens)).memories] == [BANK]


def test_what_is_not_equivalent_is_refused_unless_forced(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    examined(run, margin=-10.0)
    try:
        out = tmp_path / "folded"
        for delete, way in ((False, "read"), (True, "output")):
            folding = fold_run(run, out, FoldConfig(site=MEMORY, delete=delete, fit_steps=FEW))
            assert (folding.accepted, folding.forced, folding.way) == (False, False, way)
            assert not out.exists()
        assert Fold(run_folder=run, site=MEMORY, out=out, fit_steps=1).run() == 1
        printed = capsys.readouterr().out
        assert "refused: not as good within the margin" in printed
        assert f"parameters     {folding.parameters[0]:,} -> " in printed
        assert fold_run(run, out, FoldConfig(site=MEMORY, force=True, fit_steps=1)).forced
        assert (out / FOLDING).is_file()
    finally:
        examined(run, margin=10.0)


def test_what_is_not_folded(run: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"load-bearing \(sole\), and only constant-bias.*its content is used"):
        fold_run(run, tmp_path / "folded", FoldConfig(site="blocks.2.mixer"))
    with pytest.raises(
        ValueError, match=r"no memory site is called 'nowhere'; examined were: blocks\.0\.mixer\.memory"
    ):
        fold_run(run, tmp_path / "folded", FoldConfig(site="nowhere"))
    assert not (tmp_path / "folded").exists()
    for verdict, because in (("inconclusive", "examine it on more sequences"), (None, "was not graded")):
        with pytest.raises(ValueError, match=because):
            foldable(examination(sites=[memory(verdict=verdict)]), "blocks.1.memory")
    for verdict in FOLDED:
        assert foldable(examination(sites=[memory(verdict=verdict)]), "blocks.1.memory").verdict == verdict
    (run / "verdicts.json").rename(run / "kept.json")
    try:
        with pytest.raises(ValueError, match="has not been examined; run: mnemoscope examine"):
            fold_run(run, tmp_path / "folded", FoldConfig(site=MEMORY))
    finally:
        (run / "kept.json").rename(run / "verdicts.json")


def mean_loss(of) -> float:
    """On the sequences on which the fold was tested."""
    from mnemoscope.examination.subject.losses import NextTokenLoss, score
    from mnemoscope.experiments.held_out import Data, of_task

    held_out = of_task(of.task, Data(seed=of.recipe.train.seed), Budget(n_calibration=16, n_test=16))
    with torch.no_grad():
        losses = [score(NextTokenLoss(), of.model.eval(), batch).per_sequence for batch in held_out.test]
    return float(torch.cat(losses).double().mean())
