"""A watch as a callback of the Hugging Face Trainer.

    trainer = Trainer(model, arguments, train_dataset=data, callbacks=[WatchCallback(watch)])

Figures of every probe are appended to `trainer.state.log_history`. The Trainer does not keep the state of callbacks in
its checkpoints unless it is told to restore it, so in a resumed training the watch begins anew.
"""

from typing import Any

from torch import nn

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError as error:
    raise ImportError(
        "mnemoscope.experiments.watching.huggingface: needs the package transformers, which is missing; install it "
        "with pip install 'mnemoscope[hf]' accelerate"
    ) from error

from mnemoscope.experiments.watching.watch import MemoryWatch


class WatchCallback(TrainerCallback):
    """Looks at the model after every optimiser step, on the main process alone.

    Args:
        watch: says what is looked at, and keeps what is found.
    """

    def __init__(self, watch: MemoryWatch) -> None:
        self.watch = watch

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Called by the Trainer."""
        if model is None or not state.is_world_process_zero:
            return
        figures = self.watch.look(model, state.global_step, state.max_steps)
        if figures:
            state.log_history.append({**figures, "step": state.global_step})
