"""Which part of what a model remembers is the state of which site."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from mnemoscope.examination.subject.adapters import mixer_of
from mnemoscope.examination.subject.continuation import Continuation
from mnemoscope.examination.subject.intact import intact
from mnemoscope.examination.subject.sites import Site, Sites
from mnemoscope.examination.subject.states import LayerState, layer_of, states_in
from mnemoscope.examination.subject.streams import is_of_huggingface, is_streaming, stream_of


def placed(
    model: nn.Module,
    tokens: Shaped[Tensor, "b t *d"],
    sites: Sites,
    memories: Sequence[Site],
    layers: Mapping[int, LayerState],
    continuation: Continuation,
) -> tuple[dict[str, int], dict[str, str]]:
    """The layer of each memory's state by the path of its owner, and why others have none."""
    modules, found, refused = dict(model.named_modules()), dict[str, int](), dict[str, str]()
    for site in {site.owner: site for site in memories}.values():
        try:
            layer = _layer(site, sites, layers, modules)
            if not (is_of_huggingface(model) or is_streaming(model)):
                _require_own(model, tokens[:1], site, continuation)
            found[site.owner or ""] = layer
        except ValueError as error:
            refused[site.owner or ""] = str(error)
    return found, refused


def _layer(site: Site, sites: Sites, layers: Mapping[int, LayerState], modules: Mapping[str, nn.Module]) -> int:
    """Layers are counted alike in the paths of modules and in caches."""
    assert site.owner is not None
    layer, mixer = layer_of(site.owner), mixer_of(modules[site.owner])
    if mixer is not None and mixer.role == "route":
        raise ValueError("attention keeps keys and values, and no state of a fixed size")
    if mixer is None and is_of_huggingface(modules[""]):
        raise ValueError(f"{type(modules[site.owner]).__name__} is no class whose state is known")
    if layer not in layers:
        kept = ", ".join(map(str, sorted(layers))) or "none"
        raise ValueError(f"layer {layer} keeps no state (layers that do: {kept})")
    beside = [
        other.name
        for other in (*sites.memories, *sites.routes)
        if other.owner not in (None, site.owner)
        and layer_of(other.owner or "") == layer
        and not _keeps_keys(modules[other.owner or ""])
    ]
    if beside:
        raise ValueError(f"what layer {layer} keeps is that of {', '.join(beside)} as well")
    return layer


def _keeps_keys(module: nn.Module) -> bool:
    """Attention of a Hugging Face model, whose keys and values are never part of a layer's state here."""
    mixer = mixer_of(module)
    return mixer is not None and mixer.role == "route"


def _require_own(model: nn.Module, tokens: Shaped[Tensor, "b t *d"], site: Site, continuation: Continuation) -> None:
    """Of a model that returns a state nobody knows: it must be what the site returned."""
    returned: list[Tensor] = []

    def see(module: nn.Module, args: Any, output: Any) -> None:
        returned.extend(_tensors(output))

    handle = model.get_submodule(site.owner or "").register_forward_hook(see)
    positions = (continuation.multi if continuation.way == "multi" else continuation.step).positions
    try:
        with intact(model), torch.no_grad():
            _, held = stream_of(model).start(tokens, positions)
    finally:
        handle.remove()
    kept = [tensor for state in states_in(held).values() for tensor in state.recurrent]
    if not all(any(one.shape == other.shape and torch.equal(one, other) for other in returned) for one in kept):
        raise ValueError("the state that the model returns is not what this module returned")


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in _tensors(item)]
    return []
