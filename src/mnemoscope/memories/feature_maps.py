"""Feature maps of keys and queries as a module: the map, its coefficients, and what it costs."""

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemoscope.memories.parts import require
from mnemoscope.ops.features import (
    Monomials,
    elementwise_features,
    exponential_coefficients,
    monomial_features,
    sketch_features,
    sketch_signs,
)

Features = Literal["identity", "elementwise", "monomial", "sketch"]


class FeatureOptions(NamedTuple):
    """Which map.

    Args:
        features: the map, see `mnemoscope.ops.features`.
        degree: highest power; None for the identity.
        sketch_width: features of the sketch; None for the others.
        sketch_seed: of the sketch's random signs.
        learned_coefficients: train one factor per degree.
    """

    features: Features = "identity"
    degree: int | None = None
    sketch_width: int | None = None
    sketch_seed: int = 0
    learned_coefficients: bool = False

    def validate(self, where: str) -> None:
        """Refuse options that do not fit together; `where` is the kind of the memory."""
        plain, sketch = self.features == "identity", self.features == "sketch"
        require(
            self.degree is None if plain else self.degree is not None and self.degree >= 1,
            f"{where}.degree",
            "None" if plain else "at least 1",
            self.degree,
            "leave it out, or choose features='monomial'" if plain else "give degree=2, or features='identity'",
        )
        require(
            self.sketch_width is not None and self.sketch_width >= 1 if sketch else self.sketch_width is None,
            f"{where}.sketch_width",
            "at least 1" if sketch else f"None for features={self.features!r}",
            self.sketch_width,
            "give the number of features" if sketch else "leave it out, or set features='sketch'",
        )
        require(
            self.sketch_seed >= 0 if sketch else self.sketch_seed == 0,
            f"{where}.sketch_seed",
            "0 or more" if sketch else f"0 for features={self.features!r}, which draw nothing",
            self.sketch_seed,
            "use 0" if sketch else "leave it out, or set features='sketch'",
        )
        require(
            not (plain and self.learned_coefficients),
            f"{where}.learned_coefficients",
            "off for features='identity', which have none",
            self.learned_coefficients,
            "set it to False, or choose another map",
        )


class FeatureMap(nn.Module):
    """From `width` channels to `n_features`; coefficients start at 1 / i!, random signs follow from the options."""

    def __init__(self, options: FeatureOptions, width: int) -> None:
        super().__init__()
        self.options = options
        degree = options.degree or 0
        # Neither trained nor saved: they follow from the configuration.
        self.monomials = Monomials.of(width, degree) if options.features == "monomial" else None
        self.signs = None
        match options.features:
            case "identity":
                self.n_features = width
            case "elementwise":
                self.n_features = 1 + degree * width
            case "monomial":
                self.n_features = math.comb(width + degree, degree)
            case "sketch":
                self.n_features = options.sketch_width or 0
                self.signs = sketch_signs(width, degree, self.n_features, options.sketch_seed)
        coefficients = torch.tensor(exponential_coefficients(degree), dtype=torch.float64)
        # Elementwise features are multiplied by 1 / i! themselves; of the others the inner products are.
        self.start = coefficients if options.features == "elementwise" else coefficients.sqrt()
        self.scales = nn.Parameter(self.start.to(torch.get_default_dtype())) if options.learned_coefficients else None

    def forward(self, x: Float[Tensor, "*b k"]) -> Float[Tensor, "*b f"]:
        """The features of queries or keys."""
        scales = self.start.to(x) if self.scales is None else self.scales
        if self.monomials is not None:
            return monomial_features(x, scales, self.monomials)
        if self.signs is not None:
            return sketch_features(x, scales, self.signs)
        return elementwise_features(x, scales) if self.options.features == "elementwise" else x

    @property
    def products(self) -> int:
        """Multiply-adds of the matrix products for one vector."""
        return 0 if self.signs is None else self.signs.numel()
