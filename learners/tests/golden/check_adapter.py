#!/usr/bin/env python3
"""`check_adapter.py DIR BASE`: PEFT loads the adapter in DIR without a warning and computes W + (alpha/r) B A.

Prints the largest difference between PEFT's logits and those of a merge by hand; exit 1 above 1e-4.
"""

import json
import math
import sys
import warnings
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

LIMIT = 1e-4
PREFIX = "base_model.model."


def load_base(path):
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()


@torch.no_grad()
def merge_by_hand(model, adapter):
    """Adds `(alpha/r) B A` to every weight the file names, and takes nothing else from the file."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / (math.sqrt(config["r"]) if config.get("use_rslora") else config["r"])
    tensors = load_file(adapter / "adapter_model.safetensors")
    while tensors:
        name = next(iter(tensors)).removesuffix(".lora_A.weight").removesuffix(".lora_B.weight")
        a, b = tensors.pop(f"{name}.lora_A.weight"), tensors.pop(f"{name}.lora_B.weight")
        model.get_submodule(name.removeprefix(PREFIX)).weight += scale * (b.float() @ a.float())
    return model


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    adapter, base = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    warnings.simplefilter("error")  # PEFT only warns of missing and unexpected tensors
    # PEFT 0.21 reads a deprecated attribute of transformers 5, whichever adapter is loaded.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
    plain = load_base(base)
    tokens = torch.randint(0, plain.config.vocab_size, (2, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = plain(input_ids=tokens).logits
        merged = merge_by_hand(plain, adapter)(input_ids=tokens).logits
        peft = PeftModel.from_pretrained(load_base(base), adapter).eval()(input_ids=tokens).logits
    difference = (peft - merged).abs().max().item()
    print(f"max abs difference {difference:.3g} (the adapter moves the logits by up to {(merged - before).abs().max():.3g})")
    sys.exit(0 if difference <= LIMIT else 1)  # NaN is a failure too


if __name__ == "__main__":
    main()
