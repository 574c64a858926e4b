"""Whether, and how, a site's history can be cut to its last tokens."""

from dataclasses import replace
from typing import Literal

import torch
from torch import nn

from mnemoscope.contracts import Slots, Windowed
from mnemoscope.contracts.outputs import first_tensor
from mnemoscope.examination.interventions.inner import Inside, is_inside
from mnemoscope.examination.interventions.reads import Window, unfolded, window_input
from mnemoscope.examination.running.editing import Edit, edited
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.running.tape import Tape
from mnemoscope.examination.subject.adapters.masking import can_mask, masked
from mnemoscope.examination.subject.calls import Call, called_again
from mnemoscope.examination.subject.held import held
from mnemoscope.examination.subject.sites import Site

Method = Literal["windowed", "unfolded", "none"]


class _Capture:
    """Keeps the call it sees and changes nothing."""

    def __init__(self) -> None:
        self.call: Call | None = None

    def apply(self, call: Call) -> torch.Tensor:
        """Pass the value on."""
        self.call = call
        return call.value


@torch.no_grad()
def horizon_method(site: Site, modules: dict[str, nn.Module], replayer: Replayer, tape: Tape) -> tuple[Method, str]:
    """How the horizon of a site is measured, and a warning where it cannot be.

    For a part of a site inside its module, the read under the widest window must lead to the output that there was.
    """
    whole = replace(site, name=site.of or site.name)
    method, warning = _method_of(whole, modules, replayer, tape)
    if method == "none" or site.channels is None or not is_inside(site.owner, site.loci["read"]):
        return method, warning
    call = _call_of(whole, modules, replayer, tape)
    if call is None:
        return "none", f"{whole.name}: did not run"
    read = replace(site.loci["read"], channels=None)
    inside = Inside(Window(call.value.shape[1]), site.owner or "", read, (site.channels,))
    try:
        again = inside.apply(call)
    except Exception as error:  # whatever a foreign module objects to
        return "none", f"{whole.name}: the history of its parts cannot be cut: {type(error).__name__}: {error}"
    if not _same(again, call.value):
        return "none", f"{whole.name}: the history of its parts cannot be cut: its read leads to another output"
    return method, warning


def _method_of(site: Site, modules: dict[str, nn.Module], replayer: Replayer, tape: Tape) -> tuple[Method, str]:
    """Of a whole site.

    Attention of Hugging Face models is windowed by its mask, if the widest window gives what it gave. Any other module
    that cannot answer for windows itself is run on unfolded windows of its input, if it takes one sequence and its
    output at a position depends on no later input: outputs for a shortened input must agree.
    """
    if site.owner is None or site.whole is None:
        return "none", f"{site.name}: announced by taps, so its history cannot be cut"
    module = modules[site.owner]
    if isinstance(module, Slots):
        return "none", ""
    if isinstance(module, Windowed):
        return "windowed", ""
    call = _call_of(site, modules, replayer, tape)
    if call is None:
        return "none", f"{site.name}: did not run"
    names = replayer.held.changed(within=module)
    kept = f" (it keeps {', '.join(names)} from one call to the next)" if names else ""
    by_mask, n_tokens = can_mask(module), call.value.shape[1]
    checked = n_tokens if by_mask else max(1, n_tokens // 2)
    try:
        again = masked(call, n_tokens) if by_mask else _again(call, checked, after_others=bool(names))
    except Exception as error:  # whatever a foreign module objects to on other lengths
        return "none", f"{site.name}: its history cannot be cut: {type(error).__name__}: {error}{kept}"
    expected = call.value[:, :checked]
    if not _same(again, expected):
        on = "more than its input" if kept else "later inputs"
        return "none", f"{site.name}: its history cannot be cut: outputs depend on {on}{kept}"
    return ("windowed" if by_mask else "unfolded"), ""


def _call_of(site: Site, modules: dict[str, nn.Module], replayer: Replayer, tape: Tape) -> Call | None:
    """How the owner is called on a batch; None if it is not."""
    assert site.whole is not None
    capture = _Capture()
    with edited(modules, [Edit(site.whole, capture)]):
        replayer.loss(replayer.model, tape.batch)
    return capture.call


def _same(again: torch.Tensor, expected: torch.Tensor) -> bool:
    scale = float(expected.abs().max().clamp_min(1e-12))
    return again.shape == expected.shape and float((again - expected).abs().max()) <= _tolerance(expected) * scale


def _again(call: Call, n_tokens: int, after_others: bool) -> torch.Tensor:
    """The first tokens by themselves; the module must also take single ones, in a batch of another size.

    `after_others` lets it see other rows before instead, so that a state which it keeps shows.
    """
    assert call.module is not None
    x = window_input(call)
    with held(call.module):
        if after_others:
            called_again(call, 1 + x.flip(0))
        else:
            unfolded(call, 1)
        return first_tensor(called_again(call, x[:, :n_tokens]), call.part)


def _tolerance(value: torch.Tensor) -> float:
    """Relative error that two ways of computing the same may have in this precision."""
    return max(1e-4, 8 * torch.finfo(value.dtype).eps)
