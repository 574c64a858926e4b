"""Published rates are complete, and found by the name that torch gives a device."""

import pytest

from mnemoscope.experiments.devices import PRECISIONS, PUBLISHED, DeviceRates, published_for


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA H100 NVL", None),
        ("NVIDIA A100-SXM4-80GB", None),
        ("NVIDIA GH200 480GB", None),
    ],
)
def test_a_device_is_found_by_its_name(name: str, key: str | None):
    assert published_for(name) is (None if key is None else PUBLISHED[key])


def test_dense_rates_are_half_of_the_sparse_ones_of_the_sheet():
    for rates in PUBLISHED.values():
        assert 2 * rates.flops["bfloat16"] == 1979e12
        assert rates.flops["tf32"] < rates.flops["float16"] == rates.flops["bfloat16"]
    assert PUBLISHED["h200"].bandwidth > PUBLISHED["h100-sxm"].bandwidth


def test_incomplete_or_impossible_rates_are_refused():
    whole = dict.fromkeys(PRECISIONS, 1.0)
    with pytest.raises(ValueError, match="add what is missing"):
        DeviceRates(name="a", memory_bytes=1, bandwidth=1.0, flops={"float32": 1.0})
    with pytest.raises(ValueError, match="bandwidth must be above 0"):
        DeviceRates(name="a", memory_bytes=1, bandwidth=0.0, flops=whole)
