"""Tables of embeddings from files: .npy, .npz, .safetensors, and folders of runs, checkpoints and models.

Nothing is unpickled, and torch is not needed. A folder is one of a run (its newest checkpoint), of a checkpoint, or of
a Hugging Face model (model.safetensors, or the parts that model.safetensors.index.json names).
"""

import difflib
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

KNOWN = (
    "embedding.weight",
    "model.embed_tokens.weight",
    "transformer.wte.weight",
    "backbone.embeddings.weight",
    "gpt_neox.embed_in.weight",
    "embed_tokens.weight",
    "wte.weight",
)
"""Names of token embeddings: this project's, then those of common models; the first that is there is taken."""

SUFFIXES = (".npy", ".npz", ".safetensors")
_MODEL, _INDEX, _CHECKPOINTS = "model.safetensors", "model.safetensors.index.json", "checkpoints"
_MOST_NAMED = 12


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadTable:
    """A table as it was read.

    Args:
        source: the file it stands in.
        tensor: its name there; empty in a .npy file, which has none.
        step: trailing digits of the file's name, or of its folder's; None without any.
        table: one row for each node.
        n_rows: those of the whole tensor, before rows were chosen.
    """

    source: Path
    tensor: str
    step: int | None
    table: Float[np.ndarray, "n m"]
    n_rows: int


def read_tables(
    paths: Sequence[Path], tensor: str | None = None, rows: str | None = None, every_step: bool = False
) -> list[ReadTable]:
    """The tables of several files, which are steps of one training, in order of their steps.

    Args:
        paths: files or folders; one may be without a step.
        tensor: which of several; None for the one that is known or the only one of two axes.
        rows: "a:b", the rows of the nodes; None for all.
        every_step: of a run's folder, every checkpoint that is kept, not the newest alone.

    Raises:
        ValueError: no file, one that cannot be read, no or several tensors that fit, rows beyond the table, steps that
            are missing or not distinct, or tables of different shapes.
    """
    if not paths:
        raise ValueError("geometry: needs a file with embeddings; give a .npy, .npz or .safetensors file, or a folder")
    folders = [place for path in paths for place in (_checkpoints(path) if every_step else [path])]
    found = [read_table(path, tensor, rows) for path in folders]
    if len(found) > 1:
        _check_steps(found)
    return sorted(found, key=lambda one: -1 if one.step is None else one.step)


def read_table(path: Path, tensor: str | None = None, rows: str | None = None) -> ReadTable:
    """One table; see `read_tables` for arguments and errors."""
    source = _file_of(path)
    if source.suffix == ".npy":
        name, table = "", _load(source)
        if tensor is not None:
            raise ValueError(f"{source}: holds one array without a name, got --tensor {tensor}; leave it out")
    else:
        shapes = shapes_in(source)
        name = _chosen(source, shapes, tensor)
        table = read_tensor(source, name)
    if table.ndim != 2:
        raise ValueError(f"{source}: a table must have two axes, nodes and width, got shape {table.shape}")
    if not np.issubdtype(table.dtype, np.number) or np.iscomplexobj(table):
        raise ValueError(f"{source}: a table must hold real numbers, got {table.dtype}")
    part = table[row_slice(rows, len(table))]
    return ReadTable(source=source, tensor=name, step=_step_of(source), table=part, n_rows=len(table))


def shapes_in(source: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of a .npz or .safetensors file, or of an index of several.

    Raises:
        ValueError: a file that is not what its name says.
    """
    if source.suffix == ".npz":
        with _opened(source) as arrays:
            return {name: np.shape(arrays[name]) for name in arrays.files}
    if source.name == _INDEX:
        return {name: shape for part in _parts(source) for name, shape in shapes_in(part).items()}
    try:
        with safe_open(source, framework="np") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{source}: cannot be read as safetensors: {error}") from None


def read_tensor(source: Path, name: str) -> NDArray[Any]:
    """A tensor of a file by its name; bfloat16, which NumPy lacks, becomes float32.

    Raises:
        ValueError: no such tensor, with the nearest name.
    """
    if source.name == _INDEX:
        source = next((part for part in _parts(source) if name in shapes_in(part)), source)
    shapes = shapes_in(source)
    if name not in shapes:
        raise ValueError(f"{source}: no tensor is called {name!r}{_nearest(name, shapes)}; {_listed(shapes)}")
    if source.suffix == ".npz":
        with _opened(source) as arrays:
            return arrays[name]
    with safe_open(source, framework="np") as file:
        if file.get_slice(name).get_dtype() != "BF16":
            return file.get_tensor(name)
    return _bfloat16(source, name)


def load_array(path: Path) -> NDArray[Any]:
    """The array of a .npy file, or the only one of a .npz file.

    Raises:
        ValueError: a file of another kind, or of several arrays.
    """
    if path.suffix != ".npz":
        return _load(path)
    with _opened(path) as arrays:
        if len(arrays.files) != 1:
            raise ValueError(f"{path}: must hold one array, got {', '.join(arrays.files)}; save the one that is meant")
        return arrays[arrays.files[0]]


def row_slice(rows: str | None, n_rows: int) -> slice:
    """The rows that "a:b" means, b excluded.

    Raises:
        ValueError: other words, or rows that are not there.
    """
    if rows is None:
        return slice(0, n_rows)
    match = re.fullmatch(r"(\d*):(\d*)", rows.strip())
    first, last = (int(match[1] or 0), int(match[2] or n_rows)) if match else (0, 0)
    if not 0 <= first < last <= n_rows:
        raise ValueError(f"--rows: must be a:b with 0 <= a < b <= {n_rows}, the rows of the table, got {rows!r}")
    return slice(first, last)


def _checkpoints(path: Path) -> list[Path]:
    """Every checkpoint of a run's folder, oldest first."""
    found = _steps_in(path / _CHECKPOINTS)
    if not found:
        raise ValueError(f"{path}: --steps needs the folder of a run with checkpoints, got none there")
    return found


def _steps_in(folder: Path) -> list[Path]:
    steps = [place for place in folder.glob("step-*") if place.name[5:].isdigit() and (place / _MODEL).is_file()]
    return sorted(steps, key=lambda place: int(place.name[5:]))


def _file_of(path: Path) -> Path:
    """The file with tensors that a path means."""
    if path.is_dir():
        steps = _steps_in(path / _CHECKPOINTS)
        places = [*(place / _MODEL for place in steps[-1:]), path / _MODEL, path / _INDEX]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise ValueError(
                f"{path}: holds neither checkpoints of a run nor {_MODEL}; give a run, a checkpoint or a model's folder"
            )
        return found
    if not path.exists():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, beside, n=1)
        hint = f"; did you mean {str(path.parent / close[0])!r}?" if close else ""
        raise ValueError(f"{path}: there is no such file or folder{hint}")
    if path.suffix not in SUFFIXES and path.name != _INDEX:
        raise ValueError(f"{path}: embeddings are read from {', '.join(SUFFIXES)} and folders, got {path.suffix!r}")
    return path


def _chosen(source: Path, shapes: dict[str, tuple[int, ...]], tensor: str | None) -> str:
    if tensor is not None:
        if tensor not in shapes:
            raise ValueError(f"{source}: no tensor is called {tensor!r}{_nearest(tensor, shapes)}; {_listed(shapes)}")
        return tensor
    tables = {name: shape for name, shape in shapes.items() if len(shape) == 2}
    if len(tables) == 1:
        return next(iter(tables))
    known = next((name for name in KNOWN if name in tables), None)
    if known is None:
        raise ValueError(f"{source}: which tensor is the table? name it with --tensor; {_listed(tables)}")
    return known


def _nearest(name: str, known: dict[str, tuple[int, ...]]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"; did you mean {close[0]!r}?" if close else ""


def _listed(shapes: dict[str, tuple[int, ...]]) -> str:
    """The tensors there are, those with the most rows first."""
    if not shapes:
        return "there is none of two axes"
    tables = sorted(shapes.items(), key=lambda item: (len(item[1]) != 2, -max(item[1], default=0)))
    shown = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in tables[:_MOST_NAMED])
    more = f" and {len(tables) - _MOST_NAMED} more" if len(tables) > _MOST_NAMED else ""
    return f"there are {shown}{more}"


def _step_of(source: Path) -> int | None:
    """Of the file, or of its folder where the file's name has no digits at its end."""
    for name in (source.stem, source.resolve().parent.name):
        match = re.search(r"(\d+)$", name)
        if match:
            return int(match[1])
    return None


def _check_steps(found: Sequence[ReadTable]) -> None:
    without = next((one for one in found if one.step is None), None)
    if without is not None:
        raise ValueError(
            f"{without.source}: of several tables each needs a step, digits at the end of its name; rename it "
            "(step-500.npy), or examine it alone"
        )
    steps = [one.step for one in found]
    twice = next((one for one in found if steps.count(one.step) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice.source}: step {twice.step} is there twice; give each step of one training once")
    first, other = found[0], next((one for one in found if one.table.shape != found[0].table.shape), None)
    if other is not None:
        raise ValueError(
            f"{other.source}: tables of one training have one shape, got {other.table.shape} beside "
            f"{first.table.shape} of {first.source}; examine them one by one"
        )


def _parts(index: Path) -> list[Path]:
    """The files that an index names, which must lie beside it."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError):
        raise ValueError(f"{index}: must be an index of safetensors with a weight_map; fetch the model again") from None
    parts = [index.parent / Path(str(name)).name for name in names]
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise ValueError(f"{index}: {missing[0]}, which it names, is not beside it; fetch the model again")
    return parts


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The archive of a .npz file."""
    with path.open("rb") as file:
        loaded = _loaded(path, file)
        if isinstance(loaded, np.ndarray):
            raise ValueError(f"{path}: must be a .npz archive, got a single array; name it .npy")
        yield loaded


def _load(path: Path) -> NDArray[Any]:
    with path.open("rb") as file:
        loaded = _loaded(path, file)
    if not isinstance(loaded, np.ndarray):
        raise ValueError(f"{path}: must be a .npy array, got an archive; name it .npz")
    return loaded


def _loaded(path: Path, file: IO[bytes]) -> Any:
    try:
        return np.load(file, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise ValueError(
            f"{path}: cannot be read as a NumPy array of numbers, and nothing is unpickled; save it with numpy.save"
        ) from None


def _bfloat16(source: Path, name: str) -> Float[np.ndarray, "..."]:
    """The upper halves of float32 numbers, as safetensors lays them out: a length, a JSON header, the bytes."""
    with source.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))[name]
        begin, end = entry["data_offsets"]
        file.seek(8 + length + begin)
        halves = np.frombuffer(file.read(end - begin), dtype="<u2")
    return (halves.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])
