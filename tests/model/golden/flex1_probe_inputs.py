"""Deterministic weights and inputs for the full-size FLEX-1 parity probe (own code, numpy only).

weights(name, shape) gives the float32 array for one entry of flex1_state_dict.json; inputs() the model inputs.
The expected outputs, sampled with the strides stored in the file's metadata, are in flex1_probe_outputs.safetensors;
they were computed with tiny_template.obj as the head template instead of the non-commercial one."""

import zlib

import numpy as np


def uniform(name, shape):
    """Values in [-1, 1) on a 2**-23 grid, from the raw PCG64 stream seeded with crc32(name)."""
    n = int(np.prod(shape))
    raw = np.random.PCG64(zlib.crc32(name.encode())).random_raw(n)
    return ((raw >> np.uint64(40)).astype(np.float64) / 2.0**23 - 1.0).reshape(shape)


def weights(name, shape):
    if name.endswith("resample_filter"):
        f = np.array([1.0, 3.0, 3.0, 1.0])
        return (np.outer(f, f) / 64).astype(np.float32)
    u = uniform(name, shape)
    fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
    if ".out_layers." in name:
        if name.endswith("weight"):
            a, mean = 0.25, 0.0
        elif "scaling" in name:
            a, mean = 0.4, -5.2
        elif "rotation" in name:
            a, mean = 0.2, np.array([1.0, 0.0, 0.0, 0.0])
        elif "opacity" in name:
            a, mean = 0.3, -0.5
        else:
            a, mean = 0.3, 0.0
    elif name.endswith("affine.bias"):
        a, mean = 0.25, 1.0
    elif len(shape) == 1:
        a, mean = (0.2, 1.0) if name.endswith("weight") else (0.1, 0.0)
    elif "wpe" in name or "_embedding" in name:
        a, mean = 0.5, 0.0
    elif "_stylegan_upsampler" in name:
        a, mean = 1.7, 0.0
    else:
        a, mean = 1.7 / np.sqrt(fan_in), 0.0
    return (mean + a * u).astype(np.float32)


def inputs():
    img = (uniform("probe.image", (1, 1, 3, 64, 64)) * 0.5 + 0.5).repeat(8, -1).repeat(8, -2)
    c2w = np.eye(4)
    c2w[:3, :3] = np.array([[0.96, 0.0, -0.28], [0.0, -1.0, 0.0], [-0.28, 0.0, -0.96]])  # OpenCV camera axes
    c2w[:3, 3] = [0.29, -0.01, 0.94]
    k = np.array([[2.83, 0, 0.5021], [0, 2.83, 0.4987], [0, 0, 1]])
    expr = uniform("probe.expression", (1, 1, 135)) * 0.5
    for s in (100, 106, 114, 120, 126):
        expr[..., s : s + 6] = np.array([1, 0, 0, 0, 1, 0]) + 0.2 * expr[..., s : s + 6]
    expr[..., 132:] *= 0.1
    f = np.float32
    return {
        "image": img.astype(f),
        "cam2world": c2w[None, None].astype(f),
        "intrinsics": k[None, None].astype(f),
        "features": (2 * uniform("probe.features", (1, 1, 768, 16, 16))).astype(f),
        "expression_codes": expr.astype(f),
        "dataset_ids": np.array([[1]], dtype=np.int64),
    }
