"""`mnemoscope show TASK`: what a task looks like."""

import dataclasses
import inspect
import math
import textwrap
from dataclasses import dataclass
from typing import Annotated, Any

import tyro


@dataclass(frozen=True, kw_only=True)
class Show:
    """Show a task: its drawing, its parameters, what chance and perfection cost, and one sampled sequence."""

    task: Annotated[str, tyro.conf.Positional]
    """Its kind, as `mnemoscope list tasks` names it."""

    options: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Parameters to change, as name=value."""

    seed: int = 0
    """Of the sampled sequence."""

    def run(self) -> int:
        """Print it."""
        from mnemoscope.tasks import TASKS, build_task
        from mnemoscope.tasks.options import config_of

        config = config_of(self.task, self.options)
        task = build_task(config)
        module = inspect.getmodule(TASKS[self.task])
        print((module.__doc__ or "").strip() if module else self.task)
        print("\nparameters")
        for field in dataclasses.fields(config):
            if field.name != "kind":
                print(f"  {field.name} = {getattr(config, field.name)!r}")
        if task.vocab_size == 0:
            _print_vectors(task, self.seed)
            return 0
        print("\nnats per scored token")
        print(f"  chance      {_nats(task.chance_loss)}")
        print(f"  memoryless  {_nats(task.memoryless_loss)}   the present token alone is seen")
        print(f"  floor       {_nats(task.floor_loss)}   nothing can do better")
        print(f"\none sequence of {task.length} tokens, vocabulary {task.vocab_size}, seed {self.seed}")
        _print_sample(task, self.seed)
        return 0


def _nats(loss: float | None) -> str:
    return f"{'unknown':>8}" if loss is None or math.isnan(loss) else f"{loss:8.4f}"


def _print_vectors(task: Any, seed: int) -> None:
    from mnemoscope.tasks import task_rng

    batch = task.batch(task_rng(seed, "train", 0), 1, "train")
    print(f"\n{task.unit}; losses in nats do not apply")
    print(f"\none sequence of {task.length} vectors of {batch.inputs.shape[2]} numbers, seed {seed}; the first of them")
    for name, vectors in (("inputs", batch.inputs), ("targets", batch.targets)):
        for position, vector in enumerate(vectors[0, :3]):
            numbers = " ".join("   ." if math.isnan(number) else f"{number:6.2f}" for number in vector)
            print(f"  {name if position == 0 else '':<8}{numbers}")


def _print_sample(task: Any, seed: int) -> None:
    from mnemoscope.tasks import task_rng

    batch = task.batch(task_rng(seed, "train", 0), 1, "train")
    inputs, targets = task.words(batch.inputs[0].tolist()), ["" for _ in range(task.length)]
    scored = [position for position in range(task.length) if batch.targets[0, position] >= 0]
    for position, word in zip(scored, task.words(batch.targets[0, scored].tolist()), strict=True):
        targets[position] = word
    # What follows the last answer is padding, or is not asked.
    inputs, targets = inputs[: scored[-1] + 1], targets[: scored[-1] + 1]
    if len(scored) > len(inputs) // 2 and batch.targets[0, scored[0]] == batch.inputs[0, scored[0] + 1]:
        print(textwrap.fill(" ".join(inputs), 100, initial_indent="  ", subsequent_indent="  "))
        print(f"  {len(scored)} positions are scored against what comes next, the last against {targets[-1]}")
        return
    width = max(map(len, [*inputs, *targets])) + 1
    per_line = max(1, 96 // width)
    for start in range(0, len(inputs), per_line):
        cells = slice(start, start + per_line)
        print("  inputs   " + "".join(word.rjust(width) for word in inputs[cells]))
        if any(targets[cells]):
            print("  targets  " + "".join(word.rjust(width) for word in targets[cells]))
