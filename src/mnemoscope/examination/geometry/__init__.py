"""Does a table of embeddings hold a graph as geometry, or only as a list of its edges? Measures, nulls, a verdict.

May live here: everything that needs a table (n, m) and an edge list and nothing of the model that it is from; one file
per group of measures. May import: contracts, runs, and the measures of the examination. A table is any array of one
row per node; arithmetic is NumPy's and SciPy's in float64.
"""

from mnemoscope.examination.geometry.node2vec import Node2Vec, Node2VecConfig, node2vec
from mnemoscope.examination.geometry.session import examine_geometry
from mnemoscope.examination.geometry.verdict import Behaviour

__all__ = ["Behaviour", "Node2Vec", "Node2VecConfig", "examine_geometry", "node2vec"]
