"""`mnemoscope geometry`: what it refuses, what it prints, and what it leaves."""

import re
import shlex
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tyro

from mnemoscope.cli.geometry import Geometry
from mnemoscope.cli.geometry_tables import geometry_lines
from mnemoscope.cli.report import Report
from mnemoscope.reporting.geometry import render_geometry
from mnemoscope.runs import read_record
from mnemoscope.runs.geometry import GeometryExamination
from tests.unit.cli.calling import called
from tests.unit.reporting.geometry_samples import bare, geometric

ARMS = [[0, 1, 2, 3], [0, 4, 5, 6], [0, 7, 8, 9], [0, 10, 11, 12]]
EDGES = [(a, b) for arm in ARMS for a, b in pairwise(arm)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path-star of four arms: tables of three steps, edges, paths, scores."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    rng = np.random.default_rng(0)
    table, noise = np.zeros((13, 8)), rng.normal(size=(13, 8))
    scores = np.zeros((13, 13))
    for i, arm in enumerate(ARMS):
        table[arm[1:], i] = [2.0, 2.5, 3.0]
    for a, b in EDGES:
        scores[a, b] = scores[b, a] = 1
    for step, part in ((0, 0.0), (50, 0.5), (100, 1.0)):
        np.save(f"step-{step}.npy", part * table + (1.01 - part) * noise)
    Path("edges.csv").write_text("source,target\n" + "\n".join(f"{a},{b}" for a, b in EDGES))
    np.save("scores.npy", scores)
    np.save("paths.npy", np.array(ARMS))
    Path("held.txt").write_text("0\n0\n1\n1\n")
    Path("groups.txt").write_text("\n".join(["-1", *"aaabbbcccddd"]).replace("-1", "root"))
    return tmp_path


def asked(**changes: Any) -> Geometry:
    fixed = {"embeddings": (Path("step-100.npy"),), "edges": Path("edges.csv"), "shuffles": 60}
    return Geometry(**(fixed | changes))


def test_a_table_from_the_command_line(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "argv", ["mnemoscope", "geometry", "step-*.npy", "--edges", "edges.csv"])
    tables = tuple(Path(f"step-{step}.npy") for step in (100, 0, 50))
    asking = asked(embeddings=tables, paths=Path("paths.npy"), held_out=Path("held.txt"), scores=Path("scores.npy"))
    assert asking.run() == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "step-100.npy: 13x8"
    assert said[1].startswith("step-100.npy: ")
    assert said[1].split(":")[1].split(".")[0].strip().split(" (")[0] in ("geometric", "mixed")
    measures = {line.split()[0]: line.split() for line in said if "±" in line and "shuffled" not in line}
    assert float(measures["smoothness"][1]) > 0.5
    assert float(measures["first_hop_top1"][1]) == 1
    assert {"first_hop_auc_trained", "first_hop_auc_held_out"} <= set(measures)
    assert any(line.startswith("edge_recall") and "1.00" in line for line in said)
    heads = [line.split()[0] for line in said if line]
    assert heads[heads.index("step") :][:4] == ["step", "0", "50", "100"]
    assert said[-1] == "runs/geometry-step-100/report.html"
    record = read_record(Path("runs/geometry-step-100/geometry.json"), GeometryExamination)
    assert (record.step, [one.step for one in record.snapshots]) == (100, [0, 50])
    assert record.command == "mnemoscope geometry 'step-*.npy' --edges edges.csv"
    assert Path(said[-1]).read_text(encoding="utf-8") == render_geometry(record)
    assert sorted(file.name for file in Path("runs/geometry-step-100").iterdir()) == ["geometry.json", "report.html"]


def test_a_report_is_made_again_from_its_record(here: Path, capsys: pytest.CaptureFixture[str]):
    assert asked(out=Path("one"), groups=Path("groups.txt"), head="step-100.npy").run() == 0
    page = Path("one/report.html").read_text(encoding="utf-8")
    Path("one/report.html").unlink()
    assert Report(directories=(Path("one"),), title="Geometry of a memory").run() == 0
    assert Path("one/report.html").read_text(encoding="utf-8") == page
    assert Report(directories=(Path("one"), Path("one")), out=Path("two.html")).run() == 0
    assert "Side by side" in Path("two.html").read_text(encoding="utf-8")
    Path("none").mkdir()
    with pytest.raises(ValueError, match=r"none: holds no geometry.json, and others do"):
        Report(directories=(Path("one"), Path("none"))).run()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embeddings": ()}, "needs a file with embeddings"),
        ({"embeddings": (Path("step-10.npy"),)}, "there is no such file or folder"),
        ({"edges": Path("edges.tsv")}, "edges.tsv: there is no such file"),
        ({"rows": "0:9"}, r"edges must name nodes 0 \.\.\. 8, the rows of the table, got 12"),
        ({"rows": "9"}, "--rows: must be a:b"),
        ({"tensor": "embedding"}, "one array without a name"),
        ({"scores": Path("paths.npy")}, r"scores must be 13 x 13"),
        ({"scores": Path("scores.npy"), "head": "step-0.npy"}, "give one of them"),
        ({"held_out": Path("held.txt")}, "says which --paths were left out"),
        ({"shuffles": 1}, "--shuffles must be at least 2"),
        ({"groups": Path("held.txt")}, "a group for each of 13 nodes, got 4"),
        ({"steps": True}, "--steps needs the folder of a run"),
    ],
)
def test_mistakes_are_refused_before_anything_is_made(here: Path, changes: dict[str, Any], message: str):
    before = sorted(here.iterdir())
    with pytest.raises(ValueError, match=message):
        asked(**changes).run()
    assert sorted(here.iterdir()) == before


def test_a_diverged_table_is_refused(here: Path):
    np.save("step-7.npy", np.full((13, 8), np.nan))
    with pytest.raises(ValueError, match="a table that diverged has no geometry"):
        asked(embeddings=(Path("step-7.npy"),)).run()


def test_a_mistake_ends_with_2(here: Path):
    done = called("geometry", "step-100.npy", "--edges", "edges.cvs")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("mnemoscope: edges.cvs: there is no such file")


@pytest.mark.parametrize("width", [40, 80, 120])
def test_names_and_verdicts_are_whole_at_any_width(width: int):
    lines = geometry_lines(geometric(), width)
    assert all(len(line) <= width or "two_sided_smoothness" in line for line in lines)
    text = " ".join(" ".join(lines).split())
    for part in (
        "star: geometric (smooth). The table is a map of the graph. 7 nodes, 6 edges, 500 shuffles",
        "but: nothing is known of held-out paths",
        "first_hop_auc is not there: no paths were given",
        "far_distance_correlation",
        "geometric (smooth)",
    ):
        assert part in text
    assert geometry_lines(bare(), width)[0].startswith("bare: not memorised.")


def test_the_measures_at_120_columns():
    lines = geometry_lines(geometric(), 120)
    row = next(line for line in lines if line.startswith("two_sided_smoothness"))
    assert row.split() == ["two_sided_smoothness", "0.900", "0.500", "±", "0.100", "+4.0", "0.002", "7", "nodes"]


PAGE = (Path(__file__).parents[3] / "docs" / "geometry.md").read_text(encoding="utf-8")


def test_the_commands_of_the_page_can_be_read():
    text = PAGE.replace("\\\n", " ")
    commands = [line.strip() for line in text.splitlines() if line.strip().startswith("mnemoscope geometry ")]
    assert len(commands) >= 4
    for command in commands:
        assert tyro.cli(Geometry, args=shlex.split(command)[2:]).edges.name


def test_the_code_of_the_page_runs(here: Path):
    scope: dict[str, Any] = {"table": np.load("step-100.npy"), "edges": np.array(EDGES), "paths": np.array(ARMS)}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(code, scope)
    assert Path("report.html").is_file()
