"""Remedies of who is sent where: which slots and experts a token may use."""

from mnemoscope.training.remedies import ExpertChoice, LossFreeBalancing
from tests.unit.training.remedies.models import Case

SCORES = "lm.model.layers.0.linear_attn.in_proj_ba"
"""Path of the hybrid's gates, four numbers per token, which stand for the scores of slots."""

CASES = {
    "expert_choice": Case(
        stack=ExpertChoice(chunk_tokens=8),
        hybrid=ExpertChoice(sites=(SCORES,), chunk_tokens=8),
        layout="slots(n_slots=4) | attention(window=16)",
    ),
    "loss_free_balancing": Case(
        stack=LossFreeBalancing(),
        hybrid=LossFreeBalancing(sites=(SCORES,), scores="shares", n_chosen=2),
        layout="slots(n_slots=4, routing='loss_free') | attention(window=16)",
    ),
}
