"""`compile_step` decodes the same tokens; in a process of its own, since checked shapes would break it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.models.huggingface.stacks import wrapped

DECODE = """
import copy
import sys
import torch
from mnemoscope.models import StackConfig, build
from mnemoscope.models.huggingface import MnemoscopeConfig, MnemoscopeForCausalLM

torch.set_num_threads(1)
backend, n_tokens, layout = sys.argv[1:]
torch.manual_seed(0)
model = MnemoscopeForCausalLM(MnemoscopeConfig.of(StackConfig.of(layout, vocab_size=37, d_model=16))).eval()
compiled = copy.deepcopy(model)
compiled.compile_step(backend)
prompt = torch.arange(18).view(2, 9)
greedy = {"max_new_tokens": int(n_tokens), "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
wanted, got = model.generate(prompt, **greedy), compiled.generate(prompt, **greedy)
assert torch.equal(got.sequences, wanted.sequences)
torch.testing.assert_close(torch.stack(got.logits), torch.stack(wanted.logits), rtol=0, atol=1e-5)
assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1
assert not torch._dynamo.utils.counters["graph_break"]

# A copy reads its own weights.
other = copy.deepcopy(compiled)
with torch.no_grad():
    other.stack.embedding.weight.mul_(-1)
    one, two = (one.generate(prompt, **greedy).logits[-1] for one in (compiled, other))
assert not torch.allclose(one, two, atol=1e-3)
"""
LAYOUT = "attention(window=4), mamba2(n_heads=2, d_state=4) | gated_delta(n_heads=2)"


def decode_apart(backend: str, n_tokens: int, folder: Path) -> None:
    environment = os.environ | {"JAXTYPING_DISABLE": "1", "TORCHINDUCTOR_CACHE_DIR": str(folder)}
    command = [sys.executable, "-c", DECODE, backend, str(n_tokens), LAYOUT]
    done = subprocess.run(command, env=environment, check=False, timeout=1800, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.long
def test_the_same_tokens_and_logits(tmp_path: Path):
    decode_apart("eager", 6, tmp_path)


@pytest.mark.long
@pytest.mark.skipif(shutil.which("gcc") is None and shutil.which("clang") is None, reason="needs a C++ compiler")
def test_compiled_code_decodes_512_tokens_alike(tmp_path: Path):
    decode_apart("inductor", 512, tmp_path)


def test_a_state_that_grows_is_refused():
    _, model = wrapped("attention(window=4), attention, lstm")
    with pytest.raises(ValueError, match=r"a state of one size, got blocks\.1 that remember every token"):
        model.compile_step()
