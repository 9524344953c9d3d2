"""Files written row by row against those that safetensors writes in one go."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from safety_geometry.artefacts.tensor_file import TensorFile

TENSORS = {
    "select.harmful.-1": torch.arange(24.0).reshape(4, 3, 2).bfloat16() / 7,
    "fit.benign": torch.arange(10.0).reshape(5, 2).half() / 3,
    "mean.harmful": torch.arange(6.0).reshape(2, 3) / 11,
    "mean.benign": -torch.arange(6.0).reshape(2, 3) / 11,
    "refused.harmful": torch.tensor([1, 0, 1], dtype=torch.uint8),
}
SHAPES = {name: (str(t.dtype).removeprefix("torch."), tuple(t.shape)) for name, t in TENSORS.items()}


@pytest.mark.parametrize("metadata", [{"positions": '[-5, "t_inst"]'}, {}])
def test_the_bytes_are_those_of_save_file(tmp_path, metadata):
    with TensorFile(tmp_path / "rows", SHAPES, metadata) as file:
        for name, values in TENSORS.items():
            for rows in ([len(values) - 1], range(len(values) - 1)):  # in any order and any parts
                file.write(name, values[list(rows)].float() if values.is_floating_point() else values[list(rows)], rows)
    save_file(TENSORS, tmp_path / "whole", metadata or None)
    assert (tmp_path / "rows").read_bytes() == (tmp_path / "whole").read_bytes()
    assert all(torch.equal(t, TENSORS[name]) for name, t in load_file(tmp_path / "rows").items())


def test_a_row_that_was_not_written_is_an_error(tmp_path):
    with (
        pytest.raises(ValueError, match=r"2 rows of mean.harmful were not written"),
        TensorFile(tmp_path / "a", {"mean.harmful": ("float32", (3, 2))}, {}) as file,
    ):
        file.write("mean.harmful", torch.zeros(1, 2), [1])


def test_values_of_another_shape_and_too_large_ones(tmp_path):
    with (
        pytest.raises(OverflowError, match=r"fit\.benign is not finite as float16"),
        TensorFile(tmp_path / "a", SHAPES, {}) as file,
    ):
        file.write("fit.benign", torch.full((5, 2), 1e6))
    with (
        pytest.raises(ValueError, match=r"values are \(2,\), expected \(1, 2\)"),
        TensorFile(tmp_path / "a", SHAPES, {}) as file,
    ):
        file.write("fit.benign", torch.zeros(2), [3])


def test_one_entry_of_metadata(tmp_path):
    with pytest.raises(ValueError, match="one entry of metadata"):
        TensorFile(tmp_path / "a", SHAPES, {"a": "1", "b": "2"})
