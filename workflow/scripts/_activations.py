"""The names by which the scripts of the sweeps know the readers of tensor files."""

from safety_geometry.artefacts.activations import Activations  # noqa: F401
from safety_geometry.artefacts.tensor_file import Tensors  # noqa: F401
