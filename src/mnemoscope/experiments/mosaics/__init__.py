"""Memory Mosaics: three moons, language, RegBench. One file per figure or table.

May live here: functions that return `Experiment`s, what they measure, and the drawing data of their pages.
May import: models, memories, training, tasks, runs, contracts.
"""
