"""Advice on a run: the 25 rows of the Atlas decision framework on what its folder holds.

`reading` turns metrics, recipe and examination into evidence, `trying` writes the commands that try a change on the
run, `advice` puts the record together. The rows are those of `mnemoscope.examination.judgement`.
"""

from mnemoscope.experiments.advising.advice import advise

__all__ = ["advise"]
