"""Memories beside a controller under the contract: neural Turing machine, differentiable neural computer, MANN."""

from functools import partial

from mnemoscope.memories import DNCConfig, MANNConfig, NTMConfig
from tests.oracle import dnc, mann, ntm
from tests.unit.memories.families.case import D_MODEL, B, Case, T


def points(config: NTMConfig | DNCConfig | MANNConfig, n_heads: int) -> dict[str, tuple[int, ...]]:
    return {
        "addressing": (B, T, n_heads, config.n_slots),
        "state": (B, T, config.n_slots, config.word),
        "read": (B, T, n_heads * config.word),
        "contribution": (B, T, D_MODEL),
    }


def local_tokens(config: NTMConfig | DNCConfig | MANNConfig) -> int:
    """A controller that reaches the output remembers without the memory."""
    return 0 if config.output == "reads" else T


def ntm_case(parameters: int | None = None, *, long: bool = False, **options) -> Case:
    config = NTMConfig(**{"n_slots": 7, "word": 5, "hidden": 9, **options})
    return Case(
        config=config,
        oracle=partial(
            ntm.memory,
            n_slots=config.n_slots,
            word=config.word,
            n_read=config.n_read,
            n_write=config.n_write,
            shift=config.shift,
            clip=config.clip,
            with_controller=config.output != "reads",
        ),
        parameters=parameters,
        points=points(config, config.n_read),
        on_demand=("addressing", "state"),
        state_of=lambda state: state.memory,
        local_tokens=local_tokens(config),
        long=long,
    )


def dnc_case(parameters: int | None = None, *, long: bool = False, **options) -> Case:
    config = DNCConfig(**{"n_slots": 6, "word": 5, "n_read": 2, "hidden": 9, **options})
    return Case(
        config=config,
        oracle=partial(
            dnc.memory,
            n_slots=config.n_slots,
            word=config.word,
            n_read=config.n_read,
            mask_floor=config.mask_floor if config.masking else None,
            deallocation=config.deallocation,
            sharpness=config.sharpness,
            clip=config.clip,
            with_controller=config.output != "reads",
        ),
        parameters=parameters,
        points=points(config, config.n_read),
        on_demand=("addressing", "state"),
        state_of=lambda state: state.memory,
        local_tokens=local_tokens(config),
        long=long,
    )


def mann_case(parameters: int | None = None, *, long: bool = False, **options) -> Case:
    config = MANNConfig(**{"n_slots": 7, "word": 5, "n_heads": 2, "hidden": 9, **options})
    return Case(
        config=config,
        oracle=partial(
            mann.memory,
            n_slots=config.n_slots,
            word=config.word,
            n_heads=config.n_heads,
            usage_decay=config.usage_decay,
            clip=config.clip,
            with_controller=config.output != "reads",
        ),
        parameters=parameters,
        points=points(config, config.n_heads),
        on_demand=("addressing", "state"),
        state_of=lambda state: state.memory,
        local_tokens=local_tokens(config),
        long=long,
    )


def lstm(n_read_values: int, n_controls: int) -> int:
    """Four gates of 9 from input, reads and output, and the controls."""
    return 4 * 9 * (16 + n_read_values + 9 + 1) + (9 + 1) * n_controls


CASES = {
    # Two heads: key 5, strength, gate, exponent, shift 3; erase and add of the write head; first weights and reads.
    "neural Turing machine": ntm_case(lstm(5, 2 * 11 + 10) + 5 * 16 + 2 * 7 + 5),
    "neural Turing machine of four heads": ntm_case(
        lstm(10, 4 * 11 + 20) + 10 * 16 + 4 * 7 + 10, n_read=2, n_write=2, long=True
    ),
    "neural Turing machine with learned memory": ntm_case(
        lstm(5, 2 * 13 + 10) + 5 * 16 + 2 * 7 + 5 + 7 * 5, memory="learned", shift=5, long=True
    ),
    "neural Turing machine with random memory": ntm_case(memory="random", clip=None, long=True),
    "feed-forward neural Turing machine": ntm_case(
        9 * (16 + 5 + 1) + 10 * (2 * 9 + 10) + 5 * 16 + 2 * 7 + 5, controller="feed_forward", shift=1, long=True
    ),
    "neural Turing machine beside its controller": ntm_case(output="controller_and_reads", clip=0.5, long=True),
    # Two reads: key 5, strength, free gate and 3 modes each; key, strength, 2 gates, erase and value of the write head.
    "differentiable neural computer": dnc_case(lstm(10, 2 * 10 + 18) + 10 * 16, long=True),
    "differentiable neural computer with all amendments": dnc_case(
        lstm(10, 2 * 10 + 18 + 3 * 5 + 4) + 10 * 16, masking=True, mask_floor=0.1, deallocation=True, sharpness=True
    ),
    "masked differentiable neural computer": dnc_case(masking=True, long=True),
    "deallocating differentiable neural computer": dnc_case(deallocation=True, clip=None, long=True),
    "sharp differentiable neural computer": dnc_case(sharpness=True, n_read=1, long=True),
    "feed-forward differentiable neural computer": dnc_case(
        9 * (16 + 10 + 1) + 10 * (2 * 10 + 18) + 10 * 16, controller="feed_forward", long=True
    ),
    "differentiable neural computer beside its controller": dnc_case(output="controller_and_reads", long=True),
    "memory-augmented network": mann_case(lstm(10, 10) + 10 * 16 + 2),
    "memory-augmented network of one head": mann_case(n_heads=1, usage_decay=0.99, clip=0.5, long=True),
    "feed-forward memory-augmented network": mann_case(controller="feed_forward", long=True),
    "memory-augmented network beside its controller": mann_case(output="controller_and_reads", long=True),
}
