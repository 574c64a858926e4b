"""The page of a remedy: its file, its settings, and the commands that try it."""

import dataclasses
import inspect

from mnemoscope.cli.pages.docstrings import sections_of, title_of, with_defaults
from mnemoscope.cli.pages.page import Code, Page
from mnemoscope.cli.pages.settings import settings_table
from mnemoscope.training.remedies import REMEDIES


def remedy_page(name: str) -> Page:
    """The page of one of `REMEDIES`."""
    remedy = REMEDIES[name]
    module = inspect.getmodule(remedy)
    assert module is not None
    docstring = module.__doc__ or ""
    sections = with_defaults(sections_of(docstring), {"What differs from the source": "No difference is recorded."})
    defaults = {
        field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        for field in dataclasses.fields(remedy)
    }
    trial = f'mnemoscope trial recall-full-attention --remedies "{name}" --seeds 5'
    sections["Example"] += [Code("bash", trial), settings_table(defaults)]
    return Page(kind="remedy", name=name, title=title_of(docstring), parts=sections, module=module.__name__)
