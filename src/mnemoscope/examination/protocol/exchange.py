"""State patching of every site on the calibration sequences: does its state carry the answer from run to run?

A state is exchanged by running the module on the other run's history; where that cannot be done, by surgery on what the
model remembers, if the continuation self-test allows it. Where neither can be done, the reasons are kept.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from mnemoscope.examination.budget import Budget
from mnemoscope.examination.judgement.statistics import Bootstrap
from mnemoscope.examination.protocol.calibration import Case
from mnemoscope.examination.protocol.part import Player
from mnemoscope.examination.protocol.patching import Pair, Patched, patch, patch_states, with_other_history
from mnemoscope.examination.protocol.streaming import Streamed, keeps_state
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.subject.losses import NextTokenLoss
from mnemoscope.examination.subject.sites import Site
from mnemoscope.runs.examination import PatchingRecord, ProbeRecord

MOST_SEQUENCES = 256
MOST_BY_STATE = 64
"""Sequences whose states are exchanged by surgery, at most: where tokens go on one by one, each is a call."""

TOKENS_ONLY = "only with the loss of next tokens: an answer must be one of several tokens"

By = Literal["history", "state"]


class Exchanged(NamedTuple):
    """What patching gave by site or group, and why the others were not patched."""

    found: dict[str, PatchingRecord]
    refused: dict[str, str]


def exchange_states(
    replayer: Replayer, case: Case, batches: list[Any], budget: Budget, streamed: Streamed | None = None
) -> Exchanged:
    """Patching of all sites and groups but banks, half of the sequence long; only for losses of tokens.

    The corrupt run has the history of another sequence up to the local window before the middle of the sequence, where
    states are exchanged; what is scored from there on answers. So both runs agree on all that a memory keeps as local.
    """
    banks = {site.name for site in case.sites.memories if site.owner and not keeps_state(site, replayer.modules)}
    players = [*map(Player.of, case.sites.memories), *case.groups]
    players = [player for player in players if not banks.issuperset(player.members)]
    try:
        pairs = _pairs(replayer, case, batches)
    except ValueError as error:
        return Exchanged({}, {player.name: str(error) for player in players})
    found, refused = dict[str, PatchingRecord](), dict[str, str]()
    for player in players:
        try:
            patched, by = _patched(replayer, case, player, pairs, streamed or Streamed())
            found[player.name] = _record(patched, by, pairs[0].at, budget)
        except ValueError as error:
            refused[player.name] = str(error)
    return Exchanged(found, refused)


def unmeasured(
    replayer: Replayer, case: Case, streamed: Streamed, exchanged: Exchanged, probes: Mapping[str, ProbeRecord]
) -> dict[str, dict[str, str]]:
    """By memory or group, then "state", "probe" or "patching": why there is none. Banks keep no state to look for."""
    found: dict[str, dict[str, str]] = {}
    for what, reasons in (("state", streamed.unmeasured), ("patching", exchanged.refused)):
        for name, reason in reasons.items():
            found.setdefault(name, {})[what] = reason
    for site in case.sites.memories:
        if site.name not in probes:
            found.setdefault(site.name, {})["probe"] = _why_not_probed(replayer, site)
    return found


def _why_not_probed(replayer: Replayer, site: Site) -> str:
    if not isinstance(replayer.loss, NextTokenLoss):
        return TOKENS_ONLY
    if site.owner is None:
        return "announced by taps, so what goes into it is not known"
    return "its read or its input has no row for each position, or the answers are too few or all alike"


def _pairs(replayer: Replayer, case: Case, batches: list[Any]) -> list[Pair]:
    """Clean and corrupt batches.

    Raises:
        ValueError: where there are no answers to compare, or no history to exchange.
    """
    at = max(profile.n_tokens for profile in case.profiles.values()) // 2
    if not isinstance(replayer.loss, NextTokenLoss):
        raise ValueError(TOKENS_ONLY)
    if at < 1:
        raise ValueError("sequences of one token have no history")
    local = min(case.window, at - 1)
    some = _first(case, batches, MOST_SEQUENCES)
    return [Pair(clean=batch, corrupt=with_other_history(batch, at - local), at=at) for batch in some]


def _patched(
    replayer: Replayer, case: Case, player: Player, pairs: list[Pair], streamed: Streamed
) -> tuple[Patched, By]:
    """By its history, or else by its state.

    Raises:
        ValueError: with the reasons of both ways.
    """
    owners = _owners([site for site in case.sites.memories if site.name in player.members])
    try:
        if case.methods[player.name] == "none":
            raise ValueError("it cannot be cut (see the warnings)")
        return patch(replayer.model, pairs, owners, local=min(case.window, pairs[0].at - 1)), "history"
    except ValueError as error:
        reason = str(error)
    try:
        return _by_state(replayer, case, owners, pairs, streamed), "state"
    except ValueError as error:
        raise ValueError(f"by its history: {reason}; by its state: {error}") from error


def _owners(members: Sequence[Site]) -> list[str]:
    """The modules whose states are exchanged.

    Raises:
        ValueError: where a module's state is that of more than these members.
    """
    if any(site.owner is None for site in members):
        raise ValueError("announced by taps, which have no module whose history or state could be exchanged")
    for site in members:
        together = sum(site.of == other.of for other in members)
        if site.part is not None or (site.of and together != site.n_parts):
            raise ValueError("the state of its module is exchanged as a whole, and this is a part of that")
    return list(dict.fromkeys(site.owner for site in members if site.owner is not None))


def _by_state(replayer: Replayer, case: Case, owners: Sequence[str], pairs: list[Pair], streamed: Streamed) -> Patched:
    unplaced = [streamed.unplaced[owner] for owner in owners if owner in streamed.unplaced]
    reason = streamed.reason or "; ".join(dict.fromkeys(unplaced))
    layers = [streamed.layers[owner] for owner in owners if owner in streamed.layers]
    if reason or streamed.continuation is None or len(layers) < len(owners):
        raise ValueError(reason or "the self-test of going on from a state did not run")
    return patch_states(replayer.model, _first(case, pairs, MOST_BY_STATE), sorted(set(layers)), streamed.continuation)


def _record(patched: Patched, by: By, at: int, budget: Budget) -> PatchingRecord:
    bootstrap = Bootstrap(len(patched.clean), budget.n_resamples, budget.seed)
    denoise = patched.denoise(bootstrap)
    if denoise is None:
        raise ValueError("the other history makes no sure difference to the answers")
    return PatchingRecord(at=at, denoise=denoise, noise=patched.noise(bootstrap), by=by)


def _first(case: Case, batches: list[Any], most: int) -> list[Any]:
    """As many batches as hold the most sequences that are patched."""
    per_batch = max(1, case.n_calibration // len(case.tapes))
    return batches[: max(1, most // per_batch)]
