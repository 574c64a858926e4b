"""On CUDA some operations have no deterministic form, and torch refuses them; results are compared by tolerance."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _any_algorithm() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    yield
    torch.use_deterministic_algorithms(before)
