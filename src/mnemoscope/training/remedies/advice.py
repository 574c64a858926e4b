"""Advice on a stack's layout: which changes make its memory more likely to be used (R10, R11, R12).

What it does: `advise(config, n_tokens)` goes through the rules below and gives, for each that applies, why, and a
changed stack with its layout in one line, which can be trained at once beside the present one. `swapped` replaces a
mixer by another; every mixer maps (b, t, d) to (b, t, d), so the rest stays as it is.

Why: some ways round a memory are not for training to close, but for the layout.

Published effect: each rule names its source, and says where the specification has its statement from memory only.

Known problems: rules know the layout, not the task; each finding changes one thing, and two findings may be
alternatives (a small window, or full attention without positions). Compare over seeds. For tasks of graphs learned by
heart, see the `multi_hop_targets` remedy and the tasks' option `self_edges`.

Example: `for finding in advise(StackConfig.of("attention, gated_delta", vocab_size=16), n_tokens=64): print(finding)`.

Source: decorative-memory specification, R10 to R12.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from mnemoscope.memories import (
    AttentionConfig,
    BasedConfig,
    DNCConfig,
    GatedDeltaConfig,
    GLAConfig,
    LinearAttentionConfig,
    Mamba2Config,
    MambaConfig,
    MANNConfig,
    NTMConfig,
    RetentionConfig,
)
from mnemoscope.models import ContextConfig, MixerConfig, ParallelConfig, SerialConfig, StackConfig, parse_layout
from mnemoscope.models.written import write_layout

WIDE = 4
"""A window of more than one part in so many of a sequence is wide."""

LEAST_WINDOW = 4
"""The smallest window that is advised, in tokens."""

NO_MEMORY = ("attention", "bank", "experts", "feed_forward", "persistent")
"""Kinds that carry nothing from token to token, or only as attention does."""

Change = Callable[[MixerConfig], MixerConfig]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One piece of advice.

    Args:
        name: of the rule.
        says: what is the matter, and what to do.
        change: the stack that is advised for sequences of so many tokens; the same stack where there is no need.
        source: paper, and how well its statement is known.
    """

    name: str
    says: str
    change: Callable[[StackConfig, int], StackConfig]
    source: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A rule that applies.

    Args:
        rule: which.
        config: the changed stack.
        layout: its mixers in one line.
    """

    rule: Rule
    config: StackConfig
    layout: str

    def __str__(self) -> str:
        return f"{self.rule.name}: {self.rule.says}. Try {self.layout!r} ({self.rule.source})."


def advise(config: StackConfig, n_tokens: int) -> tuple[Finding, ...]:
    """What to change about a stack, one change at a time.

    Args:
        config: the stack.
        n_tokens: of the sequences that it is to learn, at least 1.
    """
    if n_tokens < 1:
        raise ValueError(
            f"advise: n_tokens must be at least 1, got {n_tokens}; give the length of the task's sequences"
        )
    changed = [(rule, rule.change(config, n_tokens)) for rule in ADVICE]
    return tuple(
        Finding(rule=rule, config=other, layout=write_layout(other.mixers))
        for rule, other in changed
        if other != config
    )


def swapped(config: StackConfig, mixer: str, *, replaces: str) -> StackConfig:
    """The stack with another mixer in every place where one kind stands, within compositions too.

    Args:
        config: the stack.
        mixer: what is put there, as a layout of one block, for instance "gated_delta(negative_eigenvalues=True)".
        replaces: the kind that it replaces, for instance "linear_attention".

    Raises:
        ValueError: a layout of several blocks, or a kind that the stack does not have.
    """
    mixers = parse_layout(mixer)
    if len(mixers) != 1:
        raise ValueError(f"swapped: mixer must be one block, got {len(mixers)} in {mixer!r}; swap one after another")
    kinds = sorted({leaf.kind for block in config.mixers for leaf in leaves(block)})
    if replaces not in kinds:
        raise ValueError(f"swapped: replaces must be one of {', '.join(kinds)}, which the stack has, got {replaces!r}")
    return _changed(config, lambda leaf: mixers[0] if leaf.kind == replaces else leaf)


def leaves(mixer: MixerConfig) -> tuple[MixerConfig, ...]:
    """The memories and attentions of a composition."""
    match mixer:
        case ContextConfig():
            return leaves(mixer.memory)
        case ParallelConfig():
            return (*leaves(mixer.memory), *leaves(mixer.beside))
        case SerialConfig():
            return (*leaves(mixer.first), *leaves(mixer.second))
        case _:
            return (mixer,)


def _mapped(mixer: MixerConfig, change: Change) -> MixerConfig:
    match mixer:
        case ContextConfig():
            memory = change(mixer.memory)
            if isinstance(memory, ContextConfig | ParallelConfig | SerialConfig):
                raise ValueError(
                    f"swapped: within context stands a single memory, got {memory.kind}; swap in a memory, or replace "
                    "the context by a new layout"
                )
            return replace(mixer, memory=memory)
        case ParallelConfig():
            return replace(mixer, memory=_mapped(mixer.memory, change), beside=_mapped(mixer.beside, change))
        case SerialConfig():
            return replace(mixer, first=_mapped(mixer.first, change), second=_mapped(mixer.second, change))
        case _:
            return change(mixer)


def _changed(config: StackConfig, change: Change) -> StackConfig:
    return replace(config, mixers=tuple(_mapped(mixer, change) for mixer in config.mixers))


def _remembers(mixer: MixerConfig) -> bool:
    """Whether something other than attention carries what was seen from token to token."""
    return any(leaf.kind not in NO_MEMORY for leaf in leaves(mixer))


def _memory_first(config: StackConfig, n_tokens: int) -> StackConfig:
    first, *rest = config.mixers
    at = next((i for i, mixer in enumerate(rest) if _remembers(mixer)), None)
    if at is None or not all(isinstance(leaf, AttentionConfig) for leaf in leaves(first)):
        return config
    return replace(config, mixers=(rest[at], first, *rest[:at], *rest[at + 1 :]))


def _small_windows(config: StackConfig, n_tokens: int) -> StackConfig:
    narrow = max(LEAST_WINDOW, n_tokens // (2 * WIDE))
    widest = max(LEAST_WINDOW, n_tokens // WIDE)

    def change(leaf: MixerConfig) -> MixerConfig:
        if not isinstance(leaf, AttentionConfig) or (leaf.window is not None and leaf.window <= widest):
            return leaf
        return replace(leaf, window=narrow, smallest_window=None)

    return _changed(config, change) if any(map(_remembers, config.mixers)) else config


def _no_positions(config: StackConfig, n_tokens: int) -> StackConfig:
    def change(leaf: MixerConfig) -> MixerConfig:
        if isinstance(leaf, AttentionConfig) and (leaf.window is None or leaf.window >= n_tokens):
            return replace(leaf, positions="none")
        return leaf

    every = [leaf for block in config.mixers for leaf in leaves(block)]
    windowed = any(isinstance(leaf, AttentionConfig) and change(leaf) is leaf for leaf in every)
    return _changed(config, change) if windowed or any(map(_remembers, config.mixers)) else config


def _gate_and_delta(config: StackConfig, n_tokens: int) -> StackConfig:
    def change(leaf: MixerConfig) -> MixerConfig:
        match leaf:
            case GatedDeltaConfig(retains=True, erases=True):
                return leaf
            case GatedDeltaConfig():
                return replace(leaf, retains=True, erases=True, normalise_qk=True)
            case LinearAttentionConfig() | BasedConfig() | RetentionConfig() | GLAConfig() | Mamba2Config():
                return GatedDeltaConfig(n_heads=_heads(config.d_model, leaf.n_heads))
            case MambaConfig():
                return GatedDeltaConfig(n_heads=_heads(config.d_model, 4))
            case _:
                return leaf

    return _changed(config, change)


def _heads(d_model: int, wanted: int) -> int:
    """As many heads as are wanted, or the most below that divide the width."""
    return next(n for n in range(wanted, 0, -1) if d_model % n == 0)


def _negative_eigenvalues(config: StackConfig, n_tokens: int) -> StackConfig:
    def change(leaf: MixerConfig) -> MixerConfig:
        if isinstance(leaf, GatedDeltaConfig) and leaf.erases:
            return replace(leaf, negative_eigenvalues=True)
        return leaf

    return _changed(config, change)


def _plain_controller(config: StackConfig, n_tokens: int) -> StackConfig:
    def change(leaf: MixerConfig) -> MixerConfig:
        match leaf:
            case NTMConfig() | DNCConfig() | MANNConfig():
                return replace(leaf, controller="feed_forward", forget_bias=1.0, output="reads")
            case _:
                return leaf

    return _changed(config, change)


ADVICE: tuple[Rule, ...] = (
    Rule(
        name="memory_first",
        says="attention comes before the first memory, which then sees what is mixed already; begin with the memory",
        change=_memory_first,
        source="Bae et al. 2025, arXiv 2510.04800; specification R12, which has the sentence from memory",
    ),
    Rule(
        name="small_windows",
        says="attention sees a large part of the sequence and can do the memory's work; narrow its window",
        change=_small_windows,
        source="arXiv 2606.15378 and Cabannes et al. 2025, arXiv 2509.24552, both from their abstracts; R12",
    ),
    Rule(
        name="no_positions_on_full_attention",
        says="full attention has position embeddings beside layers that know order without them; drop them there",
        change=_no_positions,
        source="arXiv 2606.15378, from its abstract; R12",
    ),
    Rule(
        name="gate_and_delta_rule",
        says="the memory only adds up or only decays; let it forget by a gate and correct by the delta rule",
        change=_gate_and_delta,
        source="Yang, Kautz, Hatamizadeh 2024, arXiv 2412.06464; R11, which has its effect from memory",
    ),
    Rule(
        name="negative_eigenvalues",
        says="the delta rule's write strength ends at 1; let it reach 2, so that a state can be turned over",
        change=_negative_eigenvalues,
        source="Grazzi et al. 2024, arXiv 2411.12537; R11",
    ),
    Rule(
        name="plain_controller",
        says="the controller can remember or answer without the memory; make it feed-forward, with outputs from reads",
        change=_plain_controller,
        source="folklore; R10",
    ),
)
"""All rules, in the order in which they are given."""
