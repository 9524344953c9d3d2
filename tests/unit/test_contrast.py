"""When refusal against compliance gives two classes."""

import torch

from safety_geometry.geometry.contrast import large_enough


def test_the_smaller_class_decides():
    for count, enough in ((14, False), (15, True), (25, True), (26, False)):
        assert large_enough(torch.arange(40) < count, 15) is enough
