"""The behaviour contrast against loops in float64."""

import numpy as np
import pytest
import torch

from safety_geometry.contrast import behaviour_means, large_enough


def test_means_by_a_loop():
    generator = torch.Generator().manual_seed(2)
    values = 50 + torch.randn(30, 3, 4, 5, generator=generator)
    refused = torch.rand(30, generator=generator) < 0.4
    for found, side in zip(behaviour_means(values, refused), (True, False), strict=True):
        rows = [values[i].double().numpy() for i in range(30) if bool(refused[i]) is side]
        assert found.dtype == torch.float32
        np.testing.assert_array_equal(found.numpy(), (np.sum(rows, 0) / len(rows)).astype(np.float32))


def test_the_smaller_class_decides():
    for count, enough in ((14, False), (15, True), (25, True), (26, False)):
        assert large_enough(torch.arange(40) < count, 15) is enough


@pytest.mark.parametrize("refused", [torch.zeros(4, dtype=bool), torch.ones(4, dtype=bool), torch.ones(3, dtype=bool)])
def test_no_two_classes(refused):
    with pytest.raises(ValueError, match="no two classes"):
        behaviour_means(torch.zeros(4, 2), refused)
