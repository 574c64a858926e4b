"""The Parallax notes put to the test: does a bank collapse, is that the optimum, what comes in its place?

May live here: one file per figure, and what several of them share.
"""
