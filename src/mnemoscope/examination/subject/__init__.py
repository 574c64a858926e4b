"""What is examined: a model that was never seen before, its sites, its calls and states, and the loss on its data.

May live here: how a model is found out, called, read and left as it was. May import: contracts, runs.
"""
