import numpy as np
import pytest
import torch

from mnemoscope.models.moons import ComplexStructure, MoonsNetworkConfig, as_complex, build_moons_network
from mnemoscope.tasks.three_moons import observations


def test_identities_foresee_as_published():
    """Anchors: closed form of beta 50 and identities, periods (1, 2, 3), 60 samples from the start."""
    network = build_moons_network(MoonsNetworkConfig(), 0).set_identity()
    seen = torch.from_numpy(observations(np.array([(1.0, 2.0, 3.0)]), np.array([0]), 60))
    with torch.no_grad():
        foreseen = network(seen)
    assert foreseen[0, 1].tolist() == pytest.approx(
        [0.427180, 0.904167, 0.362255, 0.932079, 0.340195, 0.940355], abs=2e-6
    )
    assert foreseen[0, 50].tolist() == pytest.approx(
        [0.917192, 0.370504, -0.583328, -0.808523, 0.535862, -0.840439], abs=2e-6
    )
    clipped = (foreseen[:, :-1] - seen[:, 1:]).clamp(-0.5, 0.5).square().mean()
    assert clipped.item() == pytest.approx(0.01244393, abs=1e-7)


def test_matrices_stay_complex_whatever_is_learned():
    network = build_moons_network(MoonsNetworkConfig(n_heads=1), 3)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    seen = torch.from_numpy(observations(np.array([(1.0, 2.0, 3.0)]), np.array([5]), 40))
    network(seen).square().sum().backward()
    optimiser.step()
    weight = network.memory.value.weight.detach()
    i = torch.block_diag(*[torch.tensor([[0.0, 1.0], [-1.0, 0.0]])] * 3)
    assert torch.allclose(i @ weight, weight @ i, atol=1e-6)


def test_the_nearest_complex_matrix_and_its_numbers():
    block = torch.tensor([[3.0, 4.0], [-2.0, 1.0]])
    assert ComplexStructure()(block).tolist() == [[2.0, 3.0], [-3.0, 2.0]]
    assert as_complex(block).tolist() == [[2 + 3j]]


def test_any_matrix_is_allowed_without_the_structure():
    network = build_moons_network(MoonsNetworkConfig(is_complex=False), 0)
    assert sum(p.numel() for p in network.parameters()) == 108
    assert all(torch.allclose(m, torch.eye(3, dtype=m.dtype)) for m in network.set_identity().matrices().values())


def test_a_head_does_not_cut_a_moon():
    with pytest.raises(ValueError, match=r"moons.n_heads must be 1 or 3, .* got 2"):
        MoonsNetworkConfig(n_heads=2)
    with pytest.raises(ValueError, match="positive, got 0"):
        MoonsNetworkConfig(inverse_temperature=0)
