"""The tensor of what a module returns, found and replaced without changing what holds it."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from mnemoscope.contracts.outputs import first_tensor, named_parts, tensors_in, with_first_tensor, with_parts

X, Y, Z = torch.zeros(1), torch.ones(2), torch.full((3,), 2.0)
Pair = namedtuple("Pair", ["one", "other"])


@dataclass(frozen=True)
class Frozen:
    one: Tensor
    other: Tensor


OUTPUTS: list[tuple[Any, str]] = [
    ((X, Y), "1"),
    ((X, Y), "-1"),
    ([X, Y], "1"),
    (Pair(X, Y), "other"),
    (Pair(X, Y), "1"),
    ({"one": X, "other": Y}, "other"),
    (OrderedDict(one=X, other=Y), "other"),
    (SimpleNamespace(one=X, other=Y), "other"),
    (Frozen(X, Y), "other"),
    (BaseModelOutput(last_hidden_state=X, attentions=Y), "attentions"),
]


@pytest.mark.parametrize(("output", "part"), OUTPUTS)
def test_parts_are_found_and_replaced_in_a_container_of_the_same_class(output: Any, part: str):
    assert first_tensor(output) is X
    assert first_tensor(output, part) is Y
    for name, index in ((None, 0), (part, 1)):
        other = with_first_tensor(output, Z, name)
        assert type(other) is type(output)
        values = list(named_parts(other).values())
        assert values[index] is Z
        assert values[1 - index] is (X, Y)[1 - index]
    assert first_tensor(output) is X
    assert tensors_in({"nested": [output, 3]}) == [X, Y]


def test_a_model_output_is_changed_in_both_of_its_guises():
    other = with_first_tensor(BaseModelOutput(last_hidden_state=X), Z)
    assert other.last_hidden_state is other["last_hidden_state"] is other[0] is Z


def test_a_tensor_is_itself():
    assert first_tensor(X) is X
    assert with_first_tensor(X, Y) is Y
    assert with_parts((X, (Y,)), lambda name, value: name) == ("0", "1")


@pytest.mark.parametrize(
    ("output", "part", "message"),
    [
        (3, None, "starts with one, got int; choose a submodule"),
        ({}, None, "got dict; choose a submodule"),
        (("state", X), None, r"got tuple\(str, Tensor\); name one of its tensors behind its path: ::1 \(1,\)"),
        ({"one": X}, "two", r"a tensor as 'two', got dict\(Tensor\); name one .* ::one \(1,\)"),
        ((X, Y), "2", r"a tensor as '2', got tuple\(Tensor, Tensor\)"),
    ],
)
def test_what_is_no_tensor_is_refused_with_what_is(output: Any, part: str | None, message: str):
    with pytest.raises(ValueError, match=message):
        first_tensor(output, part)
