"""`torch.compile` gives the same model; in a process of its own, since checked shapes would break it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mnemoscope.memories import MEMORIES
from mnemoscope.memories.presets import PRESETS

COMPARE = """
import sys
import torch
from mnemoscope.models import StackConfig, build

torch.set_num_threads(1)
torch._dynamo.config.allow_rnn = True  # nn.LSTM and nn.GRU are one kernel each
backend, n_tokens, *layouts = sys.argv[1:]
for layout in layouts:
    stack = build(StackConfig.of(layout, vocab_size=11, d_model=16), seed=0)
    tokens = torch.randint(11, (2, int(n_tokens)), generator=torch.Generator().manual_seed(0))
    torch._dynamo.reset()
    compiled = torch.compile(stack, backend=backend, fullgraph=True)

    def run(model):
        stack.zero_grad()
        logits = model(tokens)
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()
        return [logits, *(parameter.grad for parameter in stack.parameters() if parameter.grad is not None)]

    for eager, fast in zip(run(stack), run(compiled), strict=True):
        torch.testing.assert_close(fast, eager, rtol=1e-4, atol=1e-5, msg=lambda text: f"{layout}: {text}")
    print(layout)
"""
MIXED = "attention(window=8, n_heads=2), gated_delta(n_heads=2) | bank(n_slots=3)"


def run_apart(backend: str, folder: Path, n_tokens: int, *layouts: str) -> None:
    environment = os.environ | {"JAXTYPING_DISABLE": "1", "TORCHINDUCTOR_CACHE_DIR": str(folder)}
    command = [sys.executable, "-c", COMPARE, backend, str(n_tokens), *layouts]
    done = subprocess.run(command, env=environment, check=False, timeout=1800, capture_output=True, text=True)
    assert done.returncode == 0, f"after {done.stdout.split()}: {done.stderr[-3000:]}"


def test_the_graph_is_captured_whole(tmp_path: Path):
    run_apart("aot_eager", tmp_path, 40, MIXED)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted([*MEMORIES, *PRESETS]))
def test_the_graph_of_every_memory_is_captured_whole(name: str, tmp_path: Path):
    run_apart("aot_eager", tmp_path, 7, name)


@pytest.mark.long
@pytest.mark.skipif(shutil.which("gcc") is None and shutil.which("clang") is None, reason="needs a C++ compiler")
def test_compiled_code_computes_the_same(tmp_path: Path):
    run_apart("inductor", tmp_path, 40, MIXED)
