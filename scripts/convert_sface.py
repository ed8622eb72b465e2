"""Convert OpenCV Zoo's SFace (ONNX, block-quantised int8) to the asset that `flexavatar.tracking.identity` loads.

Batch normalisation is folded into the layer before it (the last convolution's into the linear layer behind it),
weights become int8 with one scale per output channel. Needs the package `onnx`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("onnx", type=Path, help="face_recognition_sface_2021dec_int8bq.onnx")
    parser.add_argument("-o", "--output", type=Path, default=Path("flexavatar/assets/models/sface.safetensors"))
    args = parser.parse_args()
    save_file(_convert(args.onnx), args.output, {"source": "OpenCV Zoo, SFace 2021dec, Apache-2.0"})
    print(f"wrote {args.output}, {args.output.stat().st_size / 1e6:.1f} MB")


def _convert(path: Path) -> dict[str, torch.Tensor]:
    import onnx  # pyright: ignore[reportMissingImports]
    from onnx import numpy_helper  # pyright: ignore[reportMissingImports]

    graph = onnx.load(str(path)).graph
    values = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    tensors: dict[str, torch.Tensor] = {}
    weight, bias, layer = np.zeros(0), np.zeros(0), -1
    before = (np.ones(1), np.zeros(1))  # what the normalisation in front of the linear layer does
    for node in graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        given: list[Any] = [values.get(name) for name in node.input]
        if node.op_type == "DequantizeLinear":
            values[node.output[0]] = _dequantized(
                given[0], given[1], given[2], attributes["axis"], attributes["block_size"]
            )
        elif node.op_type == "Reshape" and given[0] is not None:
            values[node.output[0]] = given[0].reshape(given[1])
        elif node.op_type == "Conv":
            weight, bias, layer = given[1], np.zeros(len(given[1])), layer + 1
        elif node.op_type == "Gemm":
            cells = given[1].shape[1] // len(before[0])
            weight = given[1] * np.repeat(before[0], cells)
            bias, layer = given[2] + given[1] @ np.repeat(before[1], cells), layer + 1
        elif node.op_type == "BatchNormalization":
            factor = given[1] / np.sqrt(given[4] + attributes["epsilon"])
            offset = given[2] - given[3] * factor
            if node.output[0] == "bn1":
                before = (factor, offset)
                continue
            weight = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
            _store(tensors, layer, weight, bias * factor + offset)
        elif node.op_type == "PRelu":
            tensors[f"{layer}.slope"] = torch.from_numpy(given[1].reshape(-1).astype(np.float32))
    return tensors


def _dequantized(values: np.ndarray, scale: np.ndarray, zero: np.ndarray, axis: int, block: int) -> np.ndarray:
    size = values.shape[axis]
    scale, zero = (np.repeat(a, block, axis).take(range(size), axis).astype(np.float32) for a in (scale, zero))
    return (values.astype(np.float32) - zero) * scale


def _store(tensors: dict[str, torch.Tensor], layer: int, weight: np.ndarray, bias: np.ndarray) -> None:
    scale = np.maximum(np.abs(weight).reshape(len(weight), -1).max(1), 1e-12) / 127
    whole = np.round(weight / scale.reshape(-1, *[1] * (weight.ndim - 1)))
    tensors[f"{layer}.weight"] = torch.from_numpy(whole.astype(np.int8))
    tensors[f"{layer}.scale"] = torch.from_numpy(scale.astype(np.float32))
    tensors[f"{layer}.bias"] = torch.from_numpy(bias.astype(np.float32))


if __name__ == "__main__":
    main()
