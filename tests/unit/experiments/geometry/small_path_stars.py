"""Path-stars of a few arms, for tests."""

from dataclasses import replace

from mnemoscope.experiments.geometry.in_weights import InWeights
from mnemoscope.experiments.geometry.path_star_models import Network
from mnemoscope.memories import AttentionConfig
from mnemoscope.tasks.path_star import PathStarConfig

TASK = PathStarConfig(n_arms=8, path_length=4)
NETWORK = Network(mixer=AttentionConfig(n_heads=2, positions="none"), layers=1, width=16)
TINY = InWeights(
    task=TASK, network=NETWORK, steps=4, batch_size=16, warmup_steps=1, every=2, learning_rate=1e-2, n_shuffles=3
)


def shrunk(config: InWeights) -> InWeights:
    """A config of an experiment with its options, on a tiny graph and for two steps."""
    task = replace(config.task, n_arms=8, path_length=4, n_pauses=min(config.task.n_pauses, 2))
    network = replace(config.network, layers=1, width=16)
    return replace(
        config,
        task=task,
        network=network,
        steps=2,
        batch_size=16,
        warmup_steps=1,
        every=1,
        n_shuffles=3,
        device="cpu",
        bfloat16=False,
    )
