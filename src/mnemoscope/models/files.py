"""A model as a folder: `model.json` says what it is, `model.safetensors` holds its weights."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_model as load_tensors
from safetensors.torch import save_model as save_tensors

from mnemoscope.models.mosaic import Mosaic, MosaicConfig, build_mosaic
from mnemoscope.models.stack import Stack, StackConfig, build

_CONFIG: TypeAdapter[StackConfig | MosaicConfig] = TypeAdapter(
    Annotated[StackConfig | MosaicConfig, Field(discriminator="kind")]
)


def save_model(model: Stack | Mosaic, folder: Path | str) -> None:
    """Write a model; each file appears whole or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / "model.safetensors.unfinished"
    save_tensors(model, str(unfinished))
    os.replace(unfinished, folder / "model.safetensors")
    unfinished = folder / "model.json.unfinished"
    unfinished.write_bytes(_CONFIG.dump_json(model.config, indent=2))
    os.replace(unfinished, folder / "model.json")


def load_model(folder: Path | str) -> Stack | Mosaic:
    """Read a model that `save_model` wrote.

    Raises:
        ValueError: where a file is missing or broken, or the configuration has unknown or ill-typed fields.
    """
    folder = Path(folder)
    for name in ("model.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} must hold model.json and model.safetensors, {name} is missing; save it again")
    try:
        config = _CONFIG.validate_json((folder / "model.json").read_bytes(), strict=True)
    except ValidationError as error:
        raise ValueError(f"{folder / 'model.json'} is not a model's configuration: {error}") from error
    model = build(config, seed=0) if isinstance(config, StackConfig) else build_mosaic(config, seed=0)
    try:
        load_tensors(model, str(folder / "model.safetensors"))
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{folder / 'model.safetensors'} does not hold the weights of model.json: {error}") from error
    return model
