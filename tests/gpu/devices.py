"""Devices of these tests: a processor, on which their logic is tried everywhere, and CUDA where there is one."""

import pytest
import torch

HERE = torch.cuda.is_available()
ON_CUDA = pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not HERE, reason="needs a CUDA device")])
every_device = pytest.mark.parametrize("device", ["cpu", ON_CUDA])


def on_each(names: list[str], quick: tuple[str, ...]) -> pytest.MarkDecorator:
    """Every name on CUDA; on a processor the quick ones, which is enough to see that the test itself is right."""
    cases = [pytest.param(name, "cpu", id=f"{name}-cpu") for name in quick]
    cases += [pytest.param(name, *ON_CUDA.values, marks=ON_CUDA.marks, id=f"{name}-cuda") for name in names]
    return pytest.mark.parametrize(("name", "device"), cases)
