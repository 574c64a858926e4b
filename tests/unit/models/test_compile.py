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

    def stream(step):
        state, found = stack.init_state(2), []
        for token in tokens[:, :2].unbind(1):
            logits, state = step(token, state)
            found.append(logits)
        return found

    for eager, fast in zip(run(stack), run(compiled), strict=True):
        torch.testing.assert_close(fast, eager, rtol=1e-4, atol=1e-5, msg=lambda text: f"{layout}: {text}")
    with torch.no_grad():
        streams = stream(stack.step), stream(torch.compile(stack.step, backend="eager", fullgraph=True))
    for eager, fast in zip(*streams, strict=True):
        torch.testing.assert_close(fast, eager, rtol=1e-4, atol=1e-5, msg=lambda text: f"{layout}, step: {text}")
    print(layout)
"""
BREAKS = """
import sys
import torch
from mnemoscope.models import StackConfig, build

torch.set_num_threads(1)
layout, precision = sys.argv[1:]
stack = build(StackConfig.of(layout, vocab_size=11, d_model=16), seed=0)
tokens = torch.randint(11, (2, 20), generator=torch.Generator().manual_seed(0))
stack = stack.bfloat16() if precision == "bf16-true" else stack
with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
    found = torch._dynamo.explain(stack)(tokens)
assert found.graph_count == 1, found
assert found.graph_break_count == 0, found.break_reasons
"""
MIXED = "attention(window=8, n_heads=2), gated_delta(n_heads=2) | bank(n_slots=3)"
LAYOUTS = (
    "(gated_delta(n_heads=2), attention(n_heads=2)) * 2",
    "mamba2(d_state=4, n_heads=2) | attention(n_heads=2)",
    "omega(n_heads=2) >> feed_forward, rwkv7(n_heads=2)",
    "context(gated_delta(n_heads=2))",
    "mosaic_v2(n_heads=2), persistent(n_heads=2)",
)
"""What people build: hybrids in turn, side by side, in series, and a memory as the context of attention."""


def run_apart(backend: str, folder: Path, n_tokens: int, *layouts: str) -> None:
    process(COMPARE, folder, backend, str(n_tokens), *layouts)


def process(script: str, folder: Path, *words: str) -> None:
    environment = os.environ | {"JAXTYPING_DISABLE": "1", "TORCHINDUCTOR_CACHE_DIR": str(folder)}
    command = [sys.executable, "-c", script, *words]
    done = subprocess.run(command, env=environment, check=False, timeout=1800, capture_output=True, text=True)
    assert done.returncode == 0, f"after {done.stdout.split()}: {done.stderr[-3000:]}"


def test_the_graph_is_captured_whole(tmp_path: Path):
    run_apart("aot_eager", tmp_path, 40, MIXED)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted([*MEMORIES, *PRESETS]))
def test_the_graph_of_every_memory_is_captured_whole(name: str, tmp_path: Path):
    run_apart("aot_eager", tmp_path, 7, name)


@pytest.mark.long
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_graph_of_a_layout_is_captured_whole(layout: str, tmp_path: Path):
    run_apart("aot_eager", tmp_path, 12, layout)


@pytest.mark.long
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_no_precision_breaks_the_graph(precision: str, tmp_path: Path):
    process(BREAKS, tmp_path, "gated_delta(n_heads=2), mlstm(n_heads=2), omega_mlp(n_heads=2), ntm, h3", precision)


@pytest.mark.long
@pytest.mark.skipif(shutil.which("gcc") is None and shutil.which("clang") is None, reason="needs a C++ compiler")
def test_compiled_code_computes_the_same(tmp_path: Path):
    run_apart("inductor", tmp_path, 40, MIXED)
