"""Memory Mosaics: three moons, language, RegBench, planets. One file per figure or table.

May live here: functions that return `Experiment`s, what they measure, and the drawing data of their pages.
May import: models, training, examination, tasks, runs.
"""
