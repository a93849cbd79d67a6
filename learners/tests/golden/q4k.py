#!/usr/bin/env python3
"""Dequantises blocks of random bytes as Q4_K with the Python package `gguf` (0.19.0); writes `q4k.safetensors` beside this file.

    python3 -m venv venv && venv/bin/pip install gguf==0.19.0 && venv/bin/python q4k.py
"""

import json
import struct
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

BLOCKS, BYTES = 12, 144


def main():
    rng = np.random.default_rng(4)
    blocks = rng.integers(0, 256, (BLOCKS, BYTES), dtype=np.uint8)
    # The scales of the groups' scales and offsets are never negative; they range from normal f16 numbers down to subnormal ones.
    units = rng.uniform(0.1, 1.0, (BLOCKS, 2)) * np.logspace(0, -6, BLOCKS)[:, None]
    blocks[:, :4] = units.astype(np.float16).view(np.uint8)
    weights = dequantize(blocks.reshape(1, -1), GGMLQuantizationType.Q4_K).astype(np.float32)
    parts = {"blocks": ("U8", [BLOCKS, BYTES], blocks.tobytes()), "weights": ("F32", [BLOCKS, 256], weights.tobytes())}
    header, data = {}, b""
    for name, (dtype, shape, raw) in parts.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (Path(__file__).parent / "q4k.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


if __name__ == "__main__":
    main()
