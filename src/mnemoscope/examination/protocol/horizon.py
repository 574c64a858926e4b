"""Whether, and how, a site's history can be cut to its last tokens."""

from typing import Literal

import torch
from torch import nn

from mnemoscope.contracts import Slots, Windowed
from mnemoscope.examination.interventions.reads import unfolded, window_input
from mnemoscope.examination.running.editing import Edit, edited
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.running.tape import Tape
from mnemoscope.examination.subject.adapters.masking import can_mask, masked
from mnemoscope.examination.subject.calls import Call, called_again
from mnemoscope.examination.subject.held import held
from mnemoscope.examination.subject.outputs import first_tensor
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
    capture = _Capture()
    with edited(modules, [Edit(site.whole, capture)]):
        replayer.loss(replayer.model, tape.batch)
    call = capture.call
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
    scale = float(expected.abs().max().clamp_min(1e-12))
    if again.shape != expected.shape or float((again - expected).abs().max()) > _tolerance(call.value) * scale:
        on = "more than its input" if kept else "later inputs"
        return "none", f"{site.name}: its history cannot be cut: outputs depend on {on}{kept}"
    return ("windowed" if by_mask else "unfolded"), ""


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
