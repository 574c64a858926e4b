"""Studies of what the literature says of ignored memories: each claim with a small test, an answer and what follows.

A study is an `Experiment` whose arms are recipes, trained into run directories that studies share (OUT/survey-runs),
and the claims of the literature that it answers. `pages` writes one page for each claim from the results.
"""
