"""Tests that need CUDA: skipped without it. `make test-gpu` runs them."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

TESTS = Path(__file__).parents[1]
sys.path.append(str(TESTS / "workflow"))


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(item.fspath).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.gpu)
            if "needs_cuda" in item.fixturenames:
                item.add_marker(pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here"))


@pytest.fixture
def needs_cuda():
    """Of every test that is skipped without CUDA; what it took is given back."""
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@pytest.fixture(scope="session")
def models() -> ModuleType:
    """tests/unit/conftest.py, under a name of its own: its small models, tokenizer and texts."""
    spec = importlib.util.spec_from_file_location("small_models", TESTS / "unit/conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
