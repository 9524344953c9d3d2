"""Directions in files of three kinds: what is written is read, and files as their authors' packages make them are too."""

import pickle
import sys
import types
from dataclasses import dataclass

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from safety_geometry.artefacts.direction_files import (
    Direction,
    read_direction,
    read_directions,
    write_repeng,
    write_safetensors,
    write_steering_vectors,
)
from safety_geometry.artefacts.errors import ArtefactError

RNG = np.random.default_rng(0)
H, R = (
    Direction(RNG.standard_normal(16).astype(np.float32), layer, position)
    for layer, position in ((3, "t_inst"), (2, -1))
)


def test_safetensors_keep_names_layers_and_positions(tmp_path):
    write_safetensors(tmp_path / "d.safetensors", {"h": H, "r": R})
    found = read_directions(tmp_path / "d.safetensors")
    assert list(found) == ["h", "r"]
    for name, want in (("h", H), ("r", R)):
        assert (found[name].vector == want.vector).all() and found[name].dtype == "float32"
        assert (found[name].layer, found[name].position) == (want.layer, want.position)
    assert np.linalg.norm(found["h"].unit) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_safetensors_of_others_have_any_dtype(tmp_path, dtype):
    wide = torch.from_numpy(H.vector).to(getattr(torch, dtype))
    save_file({"mine": wide}, tmp_path / "d.safetensors", {"directions": '{"mine": {"layer": 5}}'})
    found = read_direction(tmp_path / "d.safetensors")
    assert (found.vector == wide.float().numpy()).all() and (found.layer, found.position) == (5, None)
    assert found.dtype == {"float64": "F64"}.get(dtype, dtype)


def test_repeng_and_steering_vectors_act_at_outputs_of_blocks(tmp_path):
    """Layer 3 here, the input of block 3, is the output of block 2 there."""
    write_repeng(tmp_path / "d.gguf", {"h": H, "r": R}, "llama")
    reader = gguf.GGUFReader(tmp_path / "d.gguf")
    assert [t.name for t in reader.tensors] == ["direction.1", "direction.2"]
    assert bytes(reader.get_field("controlvector.model_hint").parts[-1]) == b"llama"
    assert int(reader.get_field("controlvector.layer_count").parts[-1][0]) == 2
    write_steering_vectors(tmp_path / "d.pt", {"h": H, "r": R})
    kept = torch.load(tmp_path / "d.pt", weights_only=True)
    assert list(kept["layer_activations"]) == [1, 2] and kept["layer_type"] == "decoder_block"
    for name in ("d.gguf", "d.pt"):
        found = read_directions(tmp_path / name)
        assert list(found) == ["layer2", "layer3"] and found["layer3"].layer == 3 and found["layer3"].position is None
        assert (found["layer3"].vector == H.vector).all() and (found["layer2"].vector == R.vector).all()


def test_a_kept_object_of_steering_vectors_is_read_without_the_package(tmp_path, monkeypatch):
    @dataclass
    class SteeringVector:
        layer_activations: dict
        layer_type: str = "decoder_block"

    SteeringVector.__module__, SteeringVector.__qualname__ = "steering_vectors.steering_vector", "SteeringVector"
    module = types.ModuleType("steering_vectors.steering_vector")
    module.SteeringVector = SteeringVector
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "steering_vectors", types.ModuleType("steering_vectors"))
        patch.setitem(sys.modules, "steering_vectors.steering_vector", module)
        torch.save(SteeringVector({4: torch.from_numpy(H.vector).half()}), tmp_path / "d.pt")
    found = read_direction(tmp_path / "d.pt")
    assert (found.layer, found.dtype) == (5, "float16")
    assert (found.vector == H.vector.astype(np.float16).astype(np.float32)).all()


def test_no_layer_0_and_no_two_of_a_layer_in_files_that_know_no_names(tmp_path):
    first = Direction(H.vector, 0)
    for write in (
        lambda d: write_repeng(tmp_path / "d.gguf", d, "llama"),
        lambda d: write_steering_vectors(tmp_path / "d.pt", d),
    ):
        with pytest.raises(ValueError, match="x is read at the input of block 0, the embedding"):
            write({"x": first})
        with pytest.raises(ValueError, match="b: there is another direction at layer 3"):
            write({"a": H, "b": H})


class Bomb:
    def __reduce__(self):
        return print, ("boom",)


def test_what_is_no_direction_is_told(tmp_path, capsys):
    def told(file: str, **which) -> str:
        with pytest.raises(ArtefactError) as refused:
            read_direction(tmp_path / file, **which)
        return str(refused.value)

    assert "there is no such file" in told("none.gguf")
    (tmp_path / "d.bin").write_bytes(b"x")
    assert "has to be one of .safetensors, .gguf, .pt, .pth" in told("d.bin")
    (tmp_path / "d.gguf").write_bytes(b"x" * 64)
    assert "is no GGUF file" in told("d.gguf")
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tensor("w", H.vector)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    assert "is no control vector but of architecture 'llama'" in told("m.gguf")
    save_file({"mine": torch.ones(3)}, tmp_path / "d.safetensors")
    assert "does not say the layer of mine; its metadata needs an entry directions" in told("d.safetensors")
    save_file({"mine": torch.ones(3)}, tmp_path / "e.safetensors", {"directions": '{"mine": {"layer": -1}}'})
    assert "layer -1 of mine is no layer" in told("e.safetensors")
    save_file({"mine": torch.zeros(3)}, tmp_path / "f.safetensors", {"directions": '{"mine": {"layer": 1}}'})
    assert "mine, of shape (3,), is no direction" in told("f.safetensors")
    (tmp_path / "d.pt").write_bytes(pickle.dumps(Bomb(), protocol=2))
    torch.save(Bomb(), tmp_path / "e.pt")
    assert "is no file of torch" in told("d.pt") and "is no file of torch" in told("e.pt")
    assert "boom" not in capsys.readouterr().out
    torch.save({"layer_activations": {1: torch.ones(3)}, "layer_type": "self_attn"}, tmp_path / "f.pt")
    assert "acts on self_attn" in told("f.pt")
    torch.save({"x": 1}, tmp_path / "g.pt")
    assert "has no layer_activations" in told("g.pt")
    write_safetensors(tmp_path / "two.safetensors", {"h": H, "r": R})
    assert "has several directions; name one: h, r" in told("two.safetensors")
    assert "has no direction 'x': h, r" in told("two.safetensors", name="x")
    assert read_direction(tmp_path / "two.safetensors", "r").layer == 2
