"""From per-sequence losses to verdicts and prescriptions: intervals, families of hypotheses, tables of rows.

Never runs a model. May import: the losses of `subject`.
"""
