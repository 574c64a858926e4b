"""Names that become folders."""

import pytest

from mnemoscope.contracts.names import check_folder_name


@pytest.mark.parametrize("name", ["control", "branch_dropout+gate_floor-2", "attention(window=4)", "v1.2", "comet"])
def test_plain_names_are_accepted(name: str) -> None:
    check_folder_name("arm", name)


@pytest.mark.parametrize(
    "name", ["a:b", "a | b", "a/b", "a\\b", "x?", "x*", '"x"', "x.", "x ", "", "CON", "nul.txt", "a\n"]
)
def test_names_that_some_system_refuses_are_refused_on_all(name: str) -> None:
    with pytest.raises(ValueError, match=r"arm: .* becomes a folder"):
        check_folder_name("arm", name)
