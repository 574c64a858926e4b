"""Groups of sites and parts of the data, as words of a command line."""

import difflib
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mnemoscope.contracts.batch import ABOUT
from mnemoscope.examination.judgement.subsets import Subset, checked
from mnemoscope.examination.subject.losses import prepare

POSITION = "position"
FIELDS = (POSITION, *ABOUT)
"""What of a position a subset can be told by: its number, and what tasks say about it."""

_COMPARISONS: dict[str, Callable[[Tensor, int], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}


def groups_from(words: Sequence[str]) -> dict[str, list[str]] | None:
    """Groups written name=pattern or name=pattern,pattern; a name may come again. None where there are none.

    Raises:
        ValueError: a word that is not written so.
    """
    found: dict[str, list[str]] = {}
    for word in words:
        name, separator, patterns = word.partition("=")
        if not (name and separator and all(patterns.split(","))):
            raise ValueError(f"examine: a group must be written name=pattern,pattern, got {word!r}")
        found.setdefault(name, []).extend(patterns.split(","))
    return found or None


def subsets_from(words: Sequence[str]) -> dict[str, Subset]:
    """Subsets written name=field>=number, for instance late=position>=128 or far=distance>=64.

    Raises:
        ValueError: a word that is not written so, an unknown field (with the nearest), or a name that is taken.
    """
    return checked(dict(map(_subset, words)))


def _subset(word: str) -> tuple[str, Subset]:
    found = re.fullmatch(r"(?P<name>[^=<>]+)=(?P<field>\w+)(?P<sign>>=|<=|>|<|=)(?P<number>-?\d+)", word)
    if found is None:
        raise ValueError(
            f"examine: a subset must be written name=field>=number (or <=, >, <, =), for instance late=position>=128, "
            f"got {word!r}"
        )
    field, compare, number = found["field"], _COMPARISONS[found["sign"]], int(found["number"])
    if field not in FIELDS:
        close = difflib.get_close_matches(field, FIELDS, n=1, cutoff=0.0)
        raise ValueError(
            f"examine: unknown field {field!r} of a subset; did you mean {close[0]!r}? {', '.join(FIELDS)}"
        )

    def belongs(batch: Any) -> Tensor:
        return compare(_values(field, batch), number)

    return found["name"], belongs


def _values(field: str, batch: Any) -> Tensor:
    if field == POSITION:
        n_rows, n_positions = prepare(batch, torch.device("cpu"))[1].shape[:2]
        return torch.arange(n_positions).expand(n_rows, -1)
    about = getattr(batch, "about", {})
    if field not in about:
        raise ValueError(
            f"examine: the data do not say the {field} of a position; they say: {', '.join((POSITION, *about))}"
        )
    return torch.as_tensor(about[field])
