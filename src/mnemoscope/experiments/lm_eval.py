"""lm-eval on exported folders: one, or two of which the second is the first one changed.

Figures are lm-eval's own (`simple_evaluate` with its `hf` backend); the difference of two folders is paired where a
metric is a mean over documents, so that its standard error is that of the documents' differences.
"""

import io
import math
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemoscope.runs import Record

MISSING = "export: lm-eval is missing; install it with pip install 'lm-eval[hf]', or leave out --lm-eval"
LINE_FEED = 10
"""What stands before a text for models of bytes, whose end token was never trained."""


@dataclass(frozen=True, kw_only=True)
class LmEvalConfig:
    """What lm-eval is asked.

    Args:
        tasks: names of lm-eval's tasks, or YAML files that describe one.
        limit: documents of each task, at most; None for all.
        batch_size: documents at once.
        device: as torch names it.
        prefix_token: stands before the first token of a text that is scored; None for what the tokeniser says.
    """

    tasks: tuple[str, ...]
    limit: int | None = None
    batch_size: int = 8
    device: str = "cpu"
    prefix_token: int | None = None

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError("export: --lm-eval needs a task, a name or a YAML file; got none")
        missing = [task for task in self.tasks if task.endswith((".yaml", ".yml")) and not Path(task).is_file()]
        if missing:
            raise ValueError(f"export: there is no task file {missing[0]}; name a YAML file, or a task of lm-eval")
        for name in ("limit", "batch_size"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"export: lm-eval's {name} must be at least 1, got {number}")


class TaskFigure(Record):
    """A figure of a task, with its standard error; `before` is the unchanged model's, None where nothing was changed.

    `difference` is after minus before. Its standard error is paired; None where the metric is not a mean over
    documents, or there is one document.
    """

    task: str
    metric: str
    n_documents: int
    after: float
    after_stderr: float | None
    before: float | None = None
    before_stderr: float | None = None
    difference: float | None = None
    difference_stderr: float | None = None


class Evaluated(Record):
    """A figure of one model, and its values by document, where it is a mean of them."""

    task: str
    metric: str
    value: float
    stderr: float | None
    n_documents: int
    by_document: dict[str, float]


def compared(after: str | Path, before: str | Path | None, config: LmEvalConfig) -> list[TaskFigure]:
    """Run lm-eval on a folder, and on the one that it was before its changes.

    Args:
        after: an exported folder.
        before: that of the same run without changes; None where there are none.
        config: what is asked.

    Raises:
        ValueError: no lm-eval, or no such task.
    """
    changed = evaluated(after, config)
    if before is None:
        return [_figure(of, None) for of in changed]
    unchanged = {(of.task, of.metric): of for of in evaluated(before, config)}
    return [_figure(of, unchanged[of.task, of.metric]) for of in changed]


def evaluated(folder: str | Path, config: LmEvalConfig) -> list[Evaluated]:
    """lm-eval's figures of an exported folder.

    Raises:
        ValueError: no lm-eval, or no such task.
    """
    import mnemoscope.models.huggingface  # noqa: F401  # registers the classes

    try:
        with _quiet():
            import lm_eval
            from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise ValueError(MISSING) from error
    arguments: dict[str, Any] = {"pretrained": str(folder)}
    if config.prefix_token is not None:
        arguments["prefix_token_id"] = config.prefix_token
    own = all(task.endswith((".yaml", ".yml")) for task in config.tasks)
    try:
        with _quiet():
            # Decorated, so that its arguments are hidden from the type checker.
            evaluate: Any = lm_eval.simple_evaluate
            results: Any = evaluate(
                model="hf",
                model_args=arguments,
                tasks=list(config.tasks),
                batch_size=config.batch_size,
                device=config.device,
                limit=config.limit,
                task_manager=TaskManager(include_defaults=not own),
            )
    except (KeyError, FileNotFoundError) as error:
        raise ValueError(f"export: lm-eval cannot run {', '.join(config.tasks)}: {error.args[0]}") from error
    return [of for task in results["results"] for of in _of_task(task, results)]


def _of_task(task: str, results: Mapping[str, Any]) -> Iterator[Evaluated]:
    documents = results["samples"].get(task, [])
    for key, value in results["results"][task].items():
        metric, comma, filtered = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        stderr = results["results"][task].get(f"{metric}_stderr,{filtered}")
        of_filter = [one for one in documents if one.get("filter", "none") == filtered]
        values = {str(one["doc_id"]): one.get(metric) for one in of_filter}
        by_document = {name: float(of) for name, of in values.items() if isinstance(of, int | float)}
        yield Evaluated(
            task=task,
            metric=metric if filtered == "none" else f"{metric} ({filtered})",
            value=float(value),
            stderr=float(stderr) if isinstance(stderr, int | float) else None,
            n_documents=len(of_filter),
            by_document=by_document if _is_mean(by_document, len(of_filter), float(value)) else {},
        )


def _is_mean(by_document: Mapping[str, float], n: int, value: float) -> bool:
    return len(by_document) == n > 0 and math.isclose(statistics.fmean(by_document.values()), value, abs_tol=1e-9)


def _figure(after: Evaluated, before: Evaluated | None) -> TaskFigure:
    alone = TaskFigure(
        task=after.task,
        metric=after.metric,
        n_documents=after.n_documents,
        after=after.value,
        after_stderr=after.stderr,
    )
    if before is None:
        return alone
    return alone.model_copy(
        update={
            "before": before.value,
            "before_stderr": before.stderr,
            "difference": after.value - before.value,
            "difference_stderr": _paired(after.by_document, before.by_document),
        }
    )


def _paired(after: Mapping[str, float], before: Mapping[str, float]) -> float | None:
    if len(after) < 2 or after.keys() != before.keys():
        return None
    differences = [after[name] - before[name] for name in after]
    return statistics.stdev(differences) / len(differences) ** 0.5


def table(figures: Sequence[TaskFigure]) -> list[str]:
    """Aligned lines, one for each figure."""
    has_before = any(figure.before is not None for figure in figures)
    head = ("task", "metric", "n", *(("before", "after", "difference") if has_before else ("value",)))
    rows = [head, *(_row(figure, has_before) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(figure: TaskFigure, has_before: bool) -> tuple[str, ...]:
    cells = (figure.task, figure.metric, str(figure.n_documents))
    after = _with_error(figure.after, figure.after_stderr)
    if not has_before:
        return (*cells, after)
    before = _with_error(figure.before, figure.before_stderr)
    return (*cells, before, after, _with_error(figure.difference, figure.difference_stderr, signed=True))


def _with_error(value: float | None, stderr: float | None, *, signed: bool = False) -> str:
    if value is None:
        return ""
    text = f"{value:+.4f}" if signed else f"{value:.4f}"
    return text if stderr is None else f"{text} ± {stderr:.4f}"


@contextmanager
def _quiet() -> Iterator[None]:
    """lm-eval and what it loads draw bars and log as they go, which is of use on a terminal alone."""
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(io.StringIO()))
        if not sys.stderr.isatty():
            stack.enter_context(redirect_stderr(io.StringIO()))
        yield
