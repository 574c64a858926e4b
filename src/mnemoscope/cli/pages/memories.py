"""The page of a memory: its file, its settings, and what one of it holds and costs."""

import dataclasses
import inspect
from typing import Any

from mnemoscope.cli.pages.docstrings import sections_of, title_of, with_defaults
from mnemoscope.cli.pages.page import Code, Page, Part, Prose, Table
from mnemoscope.cli.pages.settings import settings_table
from mnemoscope.contracts import ReadPoint
from mnemoscope.contracts.protocols import Windowed
from mnemoscope.memories import MEMORIES, presets
from mnemoscope.models import Stack, StackConfig, build
from mnemoscope.models.written import write_layout

WIDTH, TOKENS = 64, 128
"""Of the model whose costs a page gives."""

_POINTS = {
    "read": "what it gives, before its way to the residual stream",
    "contribution": "what it adds to the residual stream",
    "gate": "how far that way is open",
    "addressing": "how its read is spread over slots or tokens",
    "state": "what it carries from token to token",
}


def memory_names() -> list[str]:
    """Mechanisms, then the special cases that have a name of their own."""
    return [*MEMORIES, *presets.PRESETS]


def memory_page(name: str) -> Page:
    """The page of a memory or of a named special case."""
    config = presets.PRESETS.get(name)
    module = inspect.getmodule(MEMORIES[name if config is None else config.kind][1])
    assert module is not None
    docstring = module.__doc__ or ""
    sections = with_defaults(sections_of(docstring), {"What differs from the source": "No difference is recorded."})
    title = title_of(docstring)
    if config is not None:
        layout = write_layout([config])
        title = f"A special case of `{config.kind}`: `{layout}`."
        lead = f"`{layout}`, that is, with these parts on or off, the mechanism below. {title_of(docstring)}"
        sections["What it does"].insert(0, Prose(lead))
        of_presets = sections_of(presets.__doc__ or "")
        for heading in ("Source", "What differs from the source"):
            sections[heading] += of_presets[heading]
    sections["Example"] += _example(name)
    sections["How to read it"] += _reading(name)
    return Page(kind="memory", name=name, title=title, parts=sections, module=module.__name__)


def _example(name: str) -> list[Part]:
    model = (
        "import mnemoscope as ms\n\n"
        f'config = ms.StackConfig.of("attention(window=16), {name}", vocab_size=256, d_model={WIDTH})\n'
        "model = ms.build(config, seed=0)"
    )
    train = f'mnemoscope train text-hybrid --layout "attention(window=16), {name}" --steps 200 --out runs/{name}'
    (mixer,) = StackConfig.of(name, vocab_size=2).mixers
    return [
        Code("python", model),
        Code("bash", f"{train}\nmnemoscope examine runs/{name}"),
        settings_table({field.name: getattr(mixer, field.name) for field in dataclasses.fields(mixer)}),
    ]


def _reading(name: str) -> list[Part]:
    stack = build(StackConfig.of(name, vocab_size=2, d_model=WIDTH), seed=0)
    mixer = _mixer(stack)
    points = [found for found, module in mixer.named_modules() if isinstance(module, ReadPoint)]
    rows = [("read point", "what an examination sees there")]
    rows += [(point, _POINTS[point.rpartition(".")[2]]) for point in points]
    is_windowed = isinstance(mixer, Windowed)
    window = (
        "It answers exactly as if only its last tokens had been written, which is what a horizon curve asks."
        if is_windowed
        else "For a horizon curve it is run on windows of its own input."
    )
    costs = [
        ("of one layer", f"width {WIDTH}, default settings"),
        ("parameters", f"{sum(weight.numel() for weight in mixer.parameters()):,}"),
        (f"state after {TOKENS} tokens", f"{mixer.state_bytes(1, TOKENS):,} bytes a sequence"),
        ("products", f"{mixer.flops(1, TOKENS) / TOKENS:,.0f} FLOPs a token, {TOKENS} tokens at once"),
    ]
    return [Table(rows), Prose(window), Table(costs)]


def _mixer(stack: Stack) -> Any:
    (block,) = stack.blocks
    return block.mixer
