"""State-space memories and recurrences with exponential gates under the contract."""

from functools import partial

from mnemoscope.memories import Mamba2Config, MambaConfig, MLSTMConfig, RGLRUConfig
from tests.oracle import mamba, mamba2, mlstm, rg_lru
from tests.unit.memories.families.case import D_MODEL, B, Case, T


def mamba_case(config: MambaConfig, parameters: int | None = None, *, long: bool = False) -> Case:
    inner, rank = config.expand * D_MODEL, config.step_rank or 1
    return Case(
        config=config,
        oracle=partial(mamba.memory, rank=rank, order=config.d_state),
        parameters=parameters,
        points={"state": (B, T, inner, config.d_state), "read": (B, T, inner), "contribution": (B, T, D_MODEL)},
        on_demand=("state",),
        # The skip passes the convolution's taps by the memory.
        local_tokens=max(config.convolution, 1),
        long=long,
    )


def mamba2_case(config: Mamba2Config, parameters: int | None = None, *, long: bool = False) -> Case:
    h, n, width = config.n_heads, config.d_state, config.expand * D_MODEL // config.n_heads
    return Case(
        config=config,
        oracle=partial(mamba2.memory, n_heads=h, n_groups=config.n_groups, order=n),
        parameters=parameters,
        points={"state": (B, T, h, n, width), "read": (B, T, h, width), "contribution": (B, T, D_MODEL)},
        on_demand=("state",),
        local_tokens=max(config.convolution, 1),
        long=long,
    )


def rg_lru_case(config: RGLRUConfig, parameters: int | None = None, *, long: bool = False) -> Case:
    width = config.width or D_MODEL
    return Case(
        config=config,
        oracle=rg_lru.memory,
        parameters=parameters,
        points={"state": (B, T, width), "read": (B, T, width), "contribution": (B, T, D_MODEL)},
        on_demand=("state",),
        long=long,
    )


def mlstm_case(config: MLSTMConfig, parameters: int | None = None, *, long: bool = False) -> Case:
    h, v = config.n_heads, config.head_width or D_MODEL // config.n_heads
    read = (B, T, h, v)
    points = {"state": (B, T, h, config.key_width or v, v), "read": read, "contribution": (B, T, D_MODEL)}
    return Case(
        config=config,
        oracle=partial(mlstm.memory, n_heads=h, cap=config.gate_cap),
        parameters=parameters,
        points=points | ({"gate": read} if config.output_gate else {}),
        on_demand=("state",),
        long=long,
    )


CASES = {
    # In and out of 32 channels; 4 taps and a bias; rank 1 and two keys of 4; steps; rates; skip.
    "mamba": mamba_case(MambaConfig(d_state=4), 3 * 16 * 32 + 5 * 32 + 32 * (1 + 2 * 4) + (32 + 32) + 32 * 4 + 32),
    "mamba without convolution": mamba_case(MambaConfig(d_state=4, convolution=0), long=True),
    "mamba of odd sizes": mamba_case(
        MambaConfig(expand=1, d_state=3, step_rank=2, convolution=2),
        3 * 16 * 16 + 3 * 16 + 16 * (2 + 2 * 3) + (2 * 16 + 16) + 16 * 3 + 16,
        long=True,
    ),
    # 32 channels out, 32 gates, 32 + 2 * 8 mixed and 4 steps in; 4 taps and a bias; per head bias, rate, skip; norm.
    "mamba-2": mamba2_case(Mamba2Config(d_state=8), 16 * (32 + 48 + 4) + 5 * 48 + 3 * 4 + 32 + 32 * 16),
    "mamba-2 with groups": mamba2_case(
        Mamba2Config(n_groups=2, d_state=5), 16 * (32 + 52 + 4) + 5 * 52 + 3 * 4 + 32 + 32 * 16
    ),
    "mamba-2 with a group a head": mamba2_case(Mamba2Config(n_heads=2, n_groups=2, d_state=3), long=True),
    "mamba-2 without convolution": mamba2_case(Mamba2Config(expand=1, d_state=4, convolution=0), long=True),
    # Two maps in and one out; 4 taps and a bias; two gates of 4 blocks with biases; rates.
    "rg-lru": rg_lru_case(RGLRUConfig(), 3 * 16 * 16 + 5 * 16 + 2 * (4 * 4 * 4 + 16) + 16),
    "rg-lru of odd width": rg_lru_case(
        RGLRUConfig(width=15, n_blocks=3, convolution=2), 3 * 16 * 15 + 3 * 15 + 2 * (3 * 5 * 5 + 15) + 15, long=True
    ),
    "rg-lru with dense gates": rg_lru_case(RGLRUConfig(n_blocks=1, convolution=0), long=True),
    # Taps; q, k, v, output gate, out; two gates with biases; norm.
    "mlstm": mlstm_case(MLSTMConfig(n_heads=2), 4 * 16 + 5 * 16 * 16 + 2 * (16 * 2 + 2) + 16),
    "mlstm as in xlstm 7b": mlstm_case(
        MLSTMConfig(n_heads=2, key_width=4, convolution=0), 16 * (2 * 8 + 3 * 16) + 2 * (16 * 2 + 2) + 16
    ),
    "mlstm with free gates": mlstm_case(MLSTMConfig(n_heads=3, head_width=5, gate_cap=None), long=True),
    "bare mlstm": mlstm_case(
        MLSTMConfig(n_heads=2, convolution=0, normalise_read=False, output_gate=False),
        4 * 16 * 16 + 2 * (16 * 2 + 2),
        long=True,
    ),
}
