"""Watching memories while a model is trained: what each is worth, and a warning the moment one stops to work.

May live here: the settings, what one probe measures, when that is worth a warning, and adapters, one file per library
of training loops (`huggingface`, `lightning`), which import it at their own import. May import: what `experiments` may.
"""

from mnemoscope.experiments.watching.alarms import Alarm, Kind
from mnemoscope.experiments.watching.config import WatchConfig
from mnemoscope.experiments.watching.probe import Reading
from mnemoscope.experiments.watching.watch import MemoryWatch, watch_task

__all__ = ["Alarm", "Kind", "MemoryWatch", "Reading", "WatchConfig", "watch_task"]
