"""Published memories that are special cases of a mechanism, by the name the literature knows them under.

Widths, chunks and windows are free; what makes a case special are the parts that are on or off. With features of degree
2 a head of K channels has (K + 1) (K + 2) / 2 of them: give such memories many narrow heads.

Source: table 1 of Behrouz et al. 2025, "ATLAS" (arXiv 2505.23735), and its section 4; Yang et al. 2024 (arXiv
2406.06484) for DeltaNet; Sun et al. 2024 (arXiv 2407.04620) for TTT; Behrouz et al. 2024 (arXiv 2501.00663) for Titans.
Differs: DeepTransformer and Dot have infinitely many features in the source; here their series ends at degree 2, and a
higher `degree` comes closer. Atlas has a matrix, since Newton-Schulz steps need the momentum of every update.
"""

from mnemoscope.memories import AnyMemoryConfig
from mnemoscope.memories.gated_delta import GatedDeltaConfig
from mnemoscope.memories.omega import OmegaConfig
from mnemoscope.memories.omega_mlp import OmegaMlpConfig

PRESETS: dict[str, AnyMemoryConfig] = {
    "atlas": OmegaConfig(features="monomial", degree=2, gated_window=True, orthogonalise=5, update_every=16),
    "atlas_pp": OmegaMlpConfig(gated=True, gated_window=True),
    "deep_transformer": OmegaMlpConfig(
        window=1, momentum=False, retains=False, objective="dot", features="monomial", degree=2, normalise_memory=True
    ),
    "delta_net": GatedDeltaConfig(retains=False),
    "dot": OmegaConfig(momentum=False, retains=False, features="monomial", degree=2),
    "omega_net": OmegaMlpConfig(momentum=False, gated_window=True, features="monomial", degree=2),
    "titans": OmegaMlpConfig(window=1),
    "titans_matrix": OmegaConfig(window=1),
    "ttt": OmegaMlpConfig(window=1, momentum=False, retains=False),
    "ttt_linear": OmegaConfig(window=1, momentum=False, retains=False),
}
"""A layout may name a preset in place of a mechanism, and change its options."""
