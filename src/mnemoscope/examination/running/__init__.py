"""Running a model with interventions: records of a clean pass, replays of what follows a site, shared batches.

May import: `subject`, `interventions`.
"""
