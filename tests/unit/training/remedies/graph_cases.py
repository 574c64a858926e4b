"""Remedies that steer towards geometry."""

from mnemoscope.tasks import PathStarConfig
from mnemoscope.training.remedies import MultiHopTargets, TransplantedEmbeddings
from tests.unit.training.remedies.models import Case

# 7 nodes and PAUSE, PAD, EDGE = 9, PATH. The last sequence of the contract's data begins with 9, 5 and has target 5
# there: a self-edge.
GRAPH = PathStarConfig(n_arms=3, path_length=3, held_out=0.67, self_edges=True)

CASES = {
    "multi_hop_targets": Case(stack=MultiHopTargets(graph=GRAPH), hybrid=MultiHopTargets(graph=GRAPH)),
    "transplanted_embeddings": Case(
        stack=TransplantedEmbeddings(graph=GRAPH),
        hybrid=TransplantedEmbeddings(graph=GRAPH, freeze=True, sites=("lm.model.embed_tokens",)),
    ),
}
