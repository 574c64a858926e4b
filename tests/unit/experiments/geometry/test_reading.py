"""Tables from files: which tensor, which rows, which step, and nothing that is unpickled."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from mnemoscope.experiments.geometry.reading import load_array, read_table, read_tables, row_slice

TABLE = np.arange(12, dtype=np.float32).reshape(4, 3)


def test_a_npy_file_with_its_step_and_rows(tmp_path: Path):
    path = tmp_path / "star-step-00500.npy"
    np.save(path, TABLE)
    found = read_table(path, rows="1:3")
    assert found.table.tolist() == TABLE[1:3].tolist()
    assert (found.step, found.tensor, found.n_rows, found.source) == (500, "", 4, path)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_the_only_table_the_known_one_or_the_one_that_is_named(tmp_path: Path, suffix: str):
    def saved(**tensors: np.ndarray) -> Path:
        path = tmp_path / f"model{suffix}"
        if suffix == ".npz":
            np.savez(path, **tensors)
        else:
            save_file(tensors, path)
        return path

    bias = np.zeros(3, dtype=np.float32)
    assert read_table(saved(bias=bias, odd=TABLE)).tensor == "odd"
    both = {"lm_head.weight": TABLE + 1, "model.embed_tokens.weight": TABLE}
    assert read_table(saved(**both)).tensor == "model.embed_tokens.weight"
    assert read_table(saved(**both), "lm_head.weight").table[0, 0] == 1
    path = saved(**both, bias=bias)
    with pytest.raises(ValueError, match=r"no tensor is called 'lm_hed'; did you mean 'lm_head.weight'\?; there are"):
        read_table(path, "lm_hed")
    with pytest.raises(ValueError, match=r"must have two axes, nodes and width, got shape \(3,\)"):
        read_table(path, "bias")
    with pytest.raises(ValueError, match=r"which tensor is the table\? name it with --tensor; there are one 4x3, two"):
        read_table(saved(one=TABLE, two=TABLE))
    with pytest.raises(ValueError, match="there is none of two axes"):
        read_table(saved(bias=bias))


def test_bfloat16_becomes_the_same_numbers(tmp_path: Path):
    values = torch.tensor([[1.0, -2.5], [3.140625, 1e-30]]).bfloat16()
    path = tmp_path / "model.safetensors"
    save_torch({"before": torch.ones(3), "embedding.weight": values, "z": torch.ones(2, 2)}, path)
    found = read_table(path)
    assert found.table.dtype == np.float32
    assert np.array_equal(found.table, values.float().numpy())


def test_a_run_gives_its_newest_checkpoint_or_every_one(tmp_path: Path):
    for step in (100, 20, 3):
        folder = tmp_path / "checkpoints" / f"step-{step:08d}"
        folder.mkdir(parents=True)
        save_file({"embedding.weight": TABLE + step}, folder / "model.safetensors")
    (tmp_path / "checkpoints" / "step-00000200").mkdir()
    (newest,) = read_tables([tmp_path])
    assert (newest.step, newest.table[0, 0]) == (100, 100)
    assert [one.step for one in read_tables([tmp_path], every_step=True)] == [3, 20, 100]
    assert read_table(tmp_path / "checkpoints" / "step-00000020").step == 20
    with pytest.raises(ValueError, match="--steps needs the folder of a run"):
        read_tables([tmp_path / "checkpoints"], every_step=True)


def test_a_model_in_parts(tmp_path: Path):
    save_file({"a": TABLE[:, 0].copy()}, tmp_path / "model-1.safetensors")
    save_file({"wte.weight": TABLE}, tmp_path / "model-2.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(
        json.dumps({"weight_map": {"a": "model-1.safetensors", "wte.weight": "../../model-2.safetensors"}})
    )
    assert read_table(tmp_path).table.tolist() == TABLE.tolist()
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(ValueError, match=r"model-2.safetensors, which it names, is not beside it"):
        read_table(tmp_path)
    index.write_text("[]")
    with pytest.raises(ValueError, match="must be an index of safetensors with a weight_map"):
        read_table(tmp_path)


def test_several_tables_are_steps_in_order(tmp_path: Path):
    for name in ("step-10", "step-2", "other", "again-10"):
        np.save(tmp_path / f"{name}.npy", TABLE)
    np.save(tmp_path / "wide-3.npy", np.ones((4, 9)))

    def read(*names: str) -> list[int | None]:
        return [one.step for one in read_tables([tmp_path / f"{name}.npy" for name in names])]

    assert read("step-10", "step-2") == [2, 10]
    for names, message in (
        (("step-10", "again-10"), "step 10 is there twice"),
        (("step-10", "wide-3"), r"one shape, got \(4, 9\) beside \(4, 3\)|one shape, got \(4, 3\) beside \(4, 9\)"),
        ((), "needs a file with embeddings"),
    ):
        with pytest.raises(ValueError, match=message):
            read(*names)
    alone = tmp_path / "folder"
    alone.mkdir()
    np.save(alone / "other.npy", TABLE)
    with pytest.raises(ValueError, match="each needs a step, digits at the end of its name"):
        read_tables([alone / "other.npy", tmp_path / "step-2.npy"])


def test_what_cannot_be_read_is_refused_and_nothing_is_unpickled(tmp_path: Path):
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "broken.safetensors").write_bytes(b"not tensors at all")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04")
    np.save(tmp_path / "words.npy", np.array([["a", "b"]]))
    np.save(tmp_path / "table.npy", TABLE)
    for name, message in (
        ("objects.npy", "nothing is unpickled"),
        ("empty.npy", "cannot be read as a NumPy array"),
        ("broken.npz", "cannot be read as a NumPy array"),
        ("broken.safetensors", "cannot be read as safetensors"),
        ("words.npy", "must hold real numbers"),
        ("tabel.npy", r"no such file or folder; did you mean '.*table.npy'\?"),
        ("model.bin", "there is no such file"),
        (".", "holds neither checkpoints of a run nor model.safetensors"),
    ):
        with pytest.raises(ValueError, match=message):
            read_table(tmp_path / name)
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"read from .npy, .npz, .safetensors and folders, got '.bin'"):
        read_table(tmp_path / "model.bin")
    with pytest.raises(ValueError, match="one array without a name"):
        read_table(tmp_path / "table.npy", "embedding")
    np.savez(tmp_path / "two.npz", a=TABLE, b=TABLE)
    with pytest.raises(ValueError, match="must hold one array, got a, b"):
        load_array(tmp_path / "two.npz")


@pytest.mark.parametrize("rows", ["3:2", "0:9", "x", "1", "2:2", "-1:2"])
def test_rows_that_are_not_there(rows: str):
    with pytest.raises(ValueError, match=r"--rows: must be a:b with 0 <= a < b <= 4"):
        row_slice(rows, 4)


def test_rows_with_an_end_left_out():
    assert [row_slice(rows, 4) for rows in (None, ":2", "1:", "1:3")] == [
        slice(0, 4),
        slice(0, 2),
        slice(1, 4),
        slice(1, 3),
    ]


def test_reading_needs_no_torch():
    code = (
        "import sys, mnemoscope.experiments.geometry.reading, mnemoscope.experiments.geometry.graph_files\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
