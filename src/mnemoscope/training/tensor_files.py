"""Reading files of tensors so that they can be removed afterwards on every system."""

import sys
from pathlib import Path

from safetensors.torch import load, load_file
from torch import Tensor


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, on the CPU.

    They are mapped from the file and read where they are used; on Windows, where a file that is mapped can be neither
    replaced nor removed, they are read at once.

    Raises:
        SafetensorError: another file.
    """
    return load(path.read_bytes()) if sys.platform == "win32" else load_file(path)
