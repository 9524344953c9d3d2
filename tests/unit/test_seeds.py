"""Seeds: a function of the parts, spread over 53 bits, different wherever a part is."""

import itertools

import numpy as np

from safety_geometry.stats.seeds import derived_seed, generator


def test_known_values():
    """echo -n '["1", "attack", "advbench-3"]' | sha256sum: 16 digits, shifted by 11 bits."""
    assert derived_seed(1, "attack", "advbench-3") == 2668281699307077
    assert derived_seed() != derived_seed("")


def test_parts_are_not_run_together():
    assert derived_seed("a/b", "c") != derived_seed("a", "b/c") != derived_seed("a", "b", "c")


def test_seeds_spread():
    """Every bit is set about half of the time, pairs of bits agree as often as not, and no two seeds are alike."""
    seeds = [derived_seed(seed, name, number) for seed, name, number in itertools.product(range(10), "ab", range(100))]
    assert len(set(seeds)) == len(seeds) and min(seeds) >= 0 and max(seeds) < 2**53
    bits = np.array([[seed >> place & 1 for place in range(53)] for seed in seeds])
    assert np.abs(bits.mean(0) - 0.5).max() < 0.06
    agree = np.corrcoef(bits.T) - np.eye(53)
    assert np.abs(agree).max() < 0.12


def test_a_stream_is_its_parts():
    first, again, other = (generator(*parts).random(3).tolist() for parts in ((1, "x"), (1, "x"), (1, "y")))
    assert first == again != other
