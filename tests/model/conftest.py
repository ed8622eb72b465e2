"""The small network with reference values, and the full-size one with made-up weights."""

from __future__ import annotations

import importlib.util
import json
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from flexavatar.model import Flex1, read_config
from tests.model.flex1_reference import GOLDEN, Inputs, new_tiny


@pytest.fixture(scope="session")
def tiny() -> Flex1:
    """The small network with the reference weights, frozen."""
    config = read_config(GOLDEN / "tiny_config.json")
    return Flex1.load(GOLDEN / "tiny_state_dict.safetensors", GOLDEN / "tiny_template.obj", config)


@pytest.fixture
def trainable() -> Flex1:
    return new_tiny()


@pytest.fixture(scope="session")
def tiny_inputs() -> Inputs:
    return Inputs.of(load_file(GOLDEN / "tiny_inputs.safetensors"))


@pytest.fixture(scope="session")
def probe() -> ModuleType:
    """Deterministic weights and inputs for the full-size network."""
    spec = importlib.util.spec_from_file_location("flex1_probe_inputs", GOLDEN / "flex1_probe_inputs.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def probe_inputs(probe: ModuleType) -> Inputs:
    return Inputs.of({name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in probe.inputs().items()})


@pytest.fixture(scope="session")
def released_entries() -> dict[str, dict]:
    """Name -> entry of the released checkpoint."""
    entries = json.loads((GOLDEN / "flex1_state_dict.json").read_text())["tensors"]
    return {entry["name"]: entry for entry in entries}
