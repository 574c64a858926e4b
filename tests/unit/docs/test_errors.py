"""The index of errors holds what the code raises."""

import ast

from tests.unit.docs import written  # makes what builds the pages importable

assert written.DOCS.is_dir()

import raised_errors  # noqa: E402


def test_a_message_is_read_with_its_values_named():
    source = 'def f(n):\n    raise ValueError(f"n: must be at least 1, got {n}; " "use 3")\n'
    ((kind, message, line),) = raised_errors._raised(ast.parse(source))
    assert (kind, message, line) == ("ValueError", "n: must be at least 1, got <n>; use 3", 2)
    error = raised_errors.Raised(kind=kind, message=message, room="r", where="r/f.py:2")
    assert (error.wrong, error.fix) == ("n: must be at least 1, got <n>", "use 3")


def test_a_demand_is_read_as_its_message():
    source = 'require(n > 0, "memory.n", "positive", n, "use 4")\n'
    ((kind, message, _),) = raised_errors._raised(ast.parse(source))
    assert kind == "ValueError"
    assert message == "memory.n must be positive, got <n>; use 4"


def test_every_room_that_raises_is_on_the_page():
    page = raised_errors.pages()["errors.md"]
    for room in ("cli", "examination", "experiments", "memories", "models", "runs", "tasks", "training"):
        assert f"\n## {room}\n" in page
    assert "MetricsConfig.every: must be at least 1 step, got <every>" in page
    assert len(raised_errors.found()) > 300


def test_most_messages_say_what_to_do():
    errors = raised_errors.found()
    silent = [error for error in errors if error.fix == raised_errors.AS_IT_SAYS]
    assert len(silent) < 0.15 * len(errors), [error.where for error in silent][:20]
