"""State patching of every site on the calibration sequences: does its state carry the answer from run to run?"""

from typing import Any

from mnemoscope.examination.budget import Budget
from mnemoscope.examination.judgement.statistics import Bootstrap
from mnemoscope.examination.protocol.calibration import Case
from mnemoscope.examination.protocol.part import Player
from mnemoscope.examination.protocol.patching import Pair, patch, with_other_history
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.subject.losses import NextTokenLoss
from mnemoscope.runs.examination import PatchingRecord

MOST_SEQUENCES = 256


def exchange_states(replayer: Replayer, case: Case, batches: list[Any], budget: Budget) -> dict[str, PatchingRecord]:
    """Patching of sites and groups whose history can be cut, half of the sequence long; only for losses of tokens.

    The corrupt run has the history of another sequence up to the local window before the middle of the sequence, where
    states are exchanged; what is scored from there on answers. So both runs agree on all that a memory keeps as local.
    """
    at = max(profile.n_tokens for profile in case.profiles.values()) // 2
    local = min(case.window, at - 1)
    players = [*map(Player.of, case.sites.memories), *case.groups]
    whole = {site.name for site in case.sites.memories if site.part is None}
    chosen = [
        player
        for player in players
        if case.methods[player.name] in ("windowed", "unfolded") and whole.issuperset(player.members)
    ]
    if not isinstance(replayer.loss, NextTokenLoss) or not chosen or at < 1:
        return {}
    try:
        some = _first(case, batches)
        pairs = [Pair(clean=batch, corrupt=with_other_history(batch, at - local), at=at) for batch in some]
    except ValueError:  # batches without tokens, or of other lengths: nothing to exchange
        return {}
    owners = {site.name: site.owner for site in case.sites.memories}
    found = {}
    for player in chosen:
        paths = [path for path in (owners[name] for name in player.members) if path is not None]
        try:
            patched = patch(replayer.model, pairs, paths, local=local)
        except ValueError:  # a module that is called several times, or told more than its tokens: no state to exchange
            continue
        bootstrap = Bootstrap(len(patched.clean), budget.n_resamples, budget.seed)
        record = PatchingRecord(at=at, denoise=patched.denoise(bootstrap), noise=patched.noise(bootstrap))
        if record.denoise is not None:
            found[player.name] = record
    return found


def _first(case: Case, batches: list[Any]) -> list[Any]:
    """As many batches as hold the most sequences that are patched."""
    per_batch = case.n_calibration // len(batches)
    return batches[: max(1, MOST_SEQUENCES // per_batch)]
