#!/usr/bin/env python3
"""Computes the learner's expected numbers with transformers and PEFT, on tiny random models with adapters.

Writes `qwen3/`, `qwen2/` and `llama/` beside this file. See README.md.
"""

import json
import platform
import shutil
from pathlib import Path

import peft
import safetensors
import torch
import transformers
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import LlamaConfig, Qwen2Config, Qwen3Config

HERE = Path(__file__).parent
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LENGTHS = [7, 41, 5]  # 41 tokens are more than a vector register holds and cross the edge of a block
STEPS = 5

COMMON = dict(
    vocab_size=96,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
    rms_norm_eps=1e-6,
    bos_token_id=0,
    eos_token_id=1,
    pad_token_id=None,
    attn_implementation="eager",
    dtype=torch.float32,
)
# Of the wavelengths 6, 63, 628 and 6283, Llama 3's scaling leaves the first unchanged, interpolates the second and stretches the others.
LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=10_000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=64,
)
CONFIGS = {
    # The heads are wider than hidden / heads, and the embedding is also the output matrix.
    "qwen3": Qwen3Config(**COMMON, head_dim=16, tie_word_embeddings=True),
    # Queries, keys and values have biases, and the output matrix is not tied to the embedding.
    "qwen2": Qwen2Config(**COMMON, tie_word_embeddings=False),
    "llama": LlamaConfig(**COMMON, tie_word_embeddings=True, rope_parameters=LLAMA3),
}


def random_model(config, seed):
    """Returns a model whose weights all differ from their usual initial values: norms near 1, biases not 0."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    for name, p in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(p, 0.8, 1.2)
        else:
            torch.nn.init.normal_(p, std=0.25)
    return model.eval()


def random_adapter(model, name):
    """Returns a LoRA adapter on all seven linear layers whose `B` is random too, so that `A` has a gradient."""
    config = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=TARGETS, bias="none", task_type="CAUSAL_LM")
    model = get_peft_model(model, config)
    model.peft_config["default"].base_model_name_or_path = f"learners/tests/golden/{name}"
    for key, p in model.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(p, std=0.1)
    return model.eval()


def sequences(vocab, seed):
    """Returns token ids and weights: 0 on the prompt (the first third), positive after it, and all negative in one sequence."""
    g = torch.Generator().manual_seed(seed)
    tokens = [torch.randint(0, vocab, (n,), generator=g) for n in LENGTHS]
    weights = []
    for n in LENGTHS:
        w = torch.where(torch.rand(n, generator=g) < 0.5, 1.0, 0.25 + 1.5 * torch.rand(n, generator=g))
        w[: max(1, n // 3)] = 0.0
        weights.append(w)
    weights[1][20] = -0.75
    return tokens, weights


def logprobs(model, tokens):
    """Log-probability of each token given those before it; 0 for the first."""
    rows = []
    for t in tokens:
        scores = model(input_ids=t[None]).logits[0, :-1].log_softmax(-1)
        rows.append(torch.cat([torch.zeros(1), scores.gather(1, t[1:, None])[:, 0]]))
    return rows


def loss_of(rows, weights):
    """`sum(weight * -logprob) / sum(|weight|)`."""
    total = sum(w.abs().sum() for w in weights)
    return sum((w * -row).sum() for row, w in zip(rows, weights)) / total


def adapter_tensors(model):
    """The adapter's parameters by their names in `adapter_model.safetensors`."""
    names = set(get_peft_model_state_dict(model, save_embedding_layers=False))
    found = {k.replace(".default.", "."): p for k, p in model.named_parameters() if p.requires_grad}
    assert set(found) == names, "names differ from PEFT's file"
    return found


def sort_targets(path):
    """Sorts the targets in the saved configuration: PEFT keeps them in a set, whose order changes from run to run."""
    config = json.loads(path.read_text())
    config["target_modules"] = TARGETS
    path.write_text(json.dumps(config, indent=2) + "\n")


def write(name, config, seed):
    directory = HERE / name
    shutil.rmtree(directory, ignore_errors=True)
    base = random_model(config, seed)
    base.save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    tokens, weights = sequences(config.vocab_size, seed + 100)
    out = {f"tokens.{i}": t for i, t in enumerate(tokens)} | {f"weights.{i}": w for i, w in enumerate(weights)}

    rows = logprobs(base, tokens)
    loss = loss_of(rows, weights)
    loss.backward()
    out |= {f"base_logprobs.{i}": row.detach() for i, row in enumerate(rows)} | {"full_loss": loss.detach().reshape(1)}
    out |= {f"full_grad.{k}": p.grad.clone() for k, p in base.named_parameters()}
    base.zero_grad(set_to_none=True)

    model = random_adapter(base, name)
    model.save_pretrained(directory / "adapter", save_embedding_layers=False)
    (directory / "adapter" / "README.md").unlink(missing_ok=True)
    sort_targets(directory / "adapter" / "adapter_config.json")
    tensors = adapter_tensors(model)
    optimizer = torch.optim.AdamW(tensors.values(), lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    losses, norms = [], []
    for step in range(STEPS):
        rows = logprobs(model, tokens)
        loss = loss_of(rows, weights)
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            out |= {f"logprobs.{i}": row.detach() for i, row in enumerate(rows)} | {"loss": loss.detach().reshape(1)}
            out |= {f"grad.{k}": p.grad.clone() for k, p in tensors.items()}
        losses.append(loss.item())
        norms.append(torch.nn.utils.clip_grad_norm_(tensors.values(), 1.0).item())
        optimizer.step()
    out |= {f"after.{k}": p.detach().clone() for k, p in tensors.items()}
    out |= {"losses": torch.tensor(losses), "grad_norms": torch.tensor(norms)}

    save_file({k: v.contiguous() for k, v in out.items()}, directory / "expected.safetensors")
    size = sum(f.stat().st_size for f in directory.rglob("*") if f.is_file())
    print(f"{name}: {size / 1024:.0f} KiB, losses {losses[0]:.4f} to {losses[-1]:.4f}, gradient norms", [round(n, 3) for n in norms])


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for seed, (name, config) in enumerate(CONFIGS.items(), start=1):
        write(name, config, seed)
    versions = {m.__name__: m.__version__ for m in (torch, transformers, peft, safetensors)}
    versions["python"] = platform.python_version()
    (HERE / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()
