"""Trains a small model slowly, and logs it. Usage: train_logged.py DIRECTORY"""

import sys
import time

from mnemoscope.runs import RunDirectory
from mnemoscope.training import train
from mnemoscope.training.loggers import Mirror, TensorBoard
from tests.unit.training.small import CONFIG, SmallTask, small_model

with Mirror(sys.argv[1], [TensorBoard()]) as mirror:
    task = SmallTask(lambda _: time.sleep(0.05))
    train(small_model(), task, CONFIG, RunDirectory.create(sys.argv[1]), progress=False, callbacks=[mirror])
