"""Settings as a table."""

from collections.abc import Mapping
from typing import Any

from mnemoscope.cli.pages.page import Table


def settings_table(values: Mapping[str, Any]) -> Table:
    """Name and default of every setting but the kind."""
    rows = [(name, repr(value)) for name, value in values.items() if name != "kind"]
    return Table([("setting", "default"), *(rows or [("none", "")])])
