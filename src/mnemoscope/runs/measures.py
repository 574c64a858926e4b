"""What the measures beside a verdict are called, and what each says in a line."""

MEASURES: dict[str, str] = {
    "effective_dimension": "directions in which reads differ, by participation ratio",
    "centred_rank": "directions in which reads differ, by entropy; at most 1.5 speaks for a collapse",
    "read_width": "directions there are",
    "mean_cosine": "of two reads; 1 where all point the same way, which a common offset does alone",
    "mean_vector_share": "energy of the read that its mean carries; near 1, a candidate for one constant",
    "gradient_share": "of the training signal over all sites and routes",
    "gradient_snr": "squared mean over variance of the gradient, sequence by sequence; 1/n is noise alone",
    "attribution": "nats that the mean in place of the read would cost, estimated from gradients; for screening only",
    "gate_mean": "how far the way to the residual stream is open",
    "gate_below_0.01": "share of gate values below 0.01",
    "contribution_ratio": "length of what is added over the length of the stream it is added to",
    "addressing_entropy": "1 spreads over all slots, 0 picks one",
    "top_slot": "share of the reading mass of the slot read most",
    "dead_slots": "share of slots with less than a tenth of the mean reading mass",
    "gini": "inequality of reading mass: 0 where all slots have the same, 1 - 1/N where one has all",
    "max_violation": "largest reading mass over the mean, less one",
    "slot_cosine": "mean cosine of two slots",
    "slot_centred_cosine": "the same, less the mean slot; about -1/(N - 1) for slots in all directions",
    "slot_rank": "effective rank of the slots, by entropy of the singular values",
    "slot_stable_rank": "squared Frobenius norm of the slots over squared spectral norm",
    "stability_number": "of a bank trained by an energy: beta times the largest eigenvalue of E[q q^T]",
    "stability_threshold": "a stability number below it makes a collapse to one vector stable",
    "state_share": "effective rank of the state after the last token over the largest there can be, fullest sequence",
    "state_growth": "norm of the state after the last token over that after a quarter of the tokens",
}
"""Every name that `SiteRecord.measures` can hold."""
