#!/usr/bin/env python3
"""Computes expected losses, gradients, corrections and advantages with TRL and verl, and writes `losses.json` beside this file.

TRL's `GRPOTrainer._compute_loss` is called as it is, on a stub whose model returns fixed log-probabilities. What TRL does in
the middle of long methods (the correction for the sampler, advantages) is cut out of its installed source between
two lines and run. verl is read as text, since importing it requires ray: whole functions are taken by name. Nothing is copied here.

    python3 -m venv venv && venv/bin/pip install torch trl==1.16.0 && venv/bin/pip install --no-deps verl==0.9.1
    venv/bin/python losses.py
"""

import ast
import inspect
import json
import math
import platform
import textwrap
from collections import defaultdict
from importlib.metadata import distribution, version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import trl
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer
from trl.trainer.utils import nanstd

HERE = Path(__file__).parent
MAX_TOKENS = 9
DUAL_CLIP = 3.0


# --- fixed inputs ---------------------------------------------------------------------------------------------------


def rounded(x):
    return (x * 1e4).round() / 1e4


def batch():
    """Returns sequences of several lengths, some with untrained tool output and one without any trained token; ratios from 0.3 to 12."""
    g = torch.Generator().manual_seed(20)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 1, 0], [0, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]])
    noise = lambda scale: scale * torch.randn(mask.shape, generator=g, dtype=torch.float64)
    logprobs = rounded(-0.2 - 2.5 * torch.rand(mask.shape, generator=g, dtype=torch.float64))
    old = rounded(logprobs + noise(0.4))
    old[0, 2], old[2, 3], old[4, 1] = logprobs[0, 2] - 2.5, logprobs[2, 3] - 1.9, logprobs[4, 1] + 1.2
    sampler = rounded(old + noise(0.3))
    sampler[2, 2] = old[2, 2] - 1.4
    reference = rounded(logprobs + noise(0.5))
    reference[2, 4] = logprobs[2, 4] + 2.65  # a KL divergence beyond verl's cap
    return {
        "mask": mask,
        "logprobs": logprobs,
        "old_logprobs": rounded(old),
        "sampler_logprobs": rounded(sampler),
        "reference_logprobs": rounded(reference),
        "advantages": torch.tensor([1.2, -0.7, -1.1, 0.4, 0.9], dtype=torch.float64),
        "token_advantages": rounded(noise(1.0)),
    }


# --- TRL ------------------------------------------------------------------------------------------------------------


class OneProcess:
    """An accelerator of one process."""

    num_processes = 1
    reduce = staticmethod(lambda x, reduction=None: x)
    gather = staticmethod(lambda x: x)


def trl_loss(data, config, loss_type, advantages, correction=None, total=None):
    """Loss, gradient and metrics of TRL for one micro-batch; `total` counts the tokens of the whole batch."""
    logprobs = data["logprobs"].clone().requires_grad_()
    gspo = config.get("objective") == "gspo"
    metrics = defaultdict(list)
    stub = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *a, **k: (logprobs, torch.zeros_like(logprobs), None),
        args=SimpleNamespace(use_bias_correction_kl=False, delta=config["dual_clip"], steps_per_generation=1),
        accelerator=OneProcess(),
        model=SimpleNamespace(training=True),
        loss_type=loss_type,
        importance_sampling_level="sequence" if gspo else "token",
        epsilon_low=config["eps_low"],
        epsilon_high=config["cispo_max_ratio"] if loss_type == "cispo" else config["eps_high"],
        beta=config["kl_weight"],
        max_completion_length=config["max_tokens"],
        current_gradient_accumulation_steps=1,
        use_vllm=correction is not None,
        vllm_importance_sampling_correction=correction is not None,
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        _entropy_bonus_enabled=False,
        _metrics={"train": metrics},
    )
    mask = data["mask"]
    prompt = torch.zeros(len(mask), 1, dtype=torch.long)
    inputs = {
        "prompt_ids": prompt,
        "prompt_mask": prompt,
        "completion_ids": torch.zeros_like(mask),
        "completion_mask": torch.ones_like(mask),
        "tool_mask": mask,
        "advantages": advantages,
        "old_per_token_logps": data["old_logprobs"],
        "ref_per_token_logps": data["reference_logprobs"],
        "importance_sampling_ratio": correction,
        "num_items_in_batch": torch.tensor(float(mask.sum() if total is None else total)),
    }
    loss = GRPOTrainer._compute_loss(stub, None, inputs)
    loss.backward()
    clipped = metrics.get("clip_ratio/region_mean", metrics.get("cispo_clip_ratio"))[0]
    # With one ratio per sequence (GSPO), TRL also counts the sequence without trained tokens; the learner does not.
    clipped = None if gspo else clipped
    return {"loss": loss.item(), "gradient": logprobs.grad.tolist(), "clip_fraction": clipped, "kl": metrics.get("kl", [None])[0]}


def cut(function, first, after):
    """Returns the lines of an installed function from the only one with `first` up to the next one with `after`, and their location."""
    lines, start = inspect.getsourcelines(function)
    (begin,) = [i for i, line in enumerate(lines) if first in line]
    end = next(i for i in range(begin, len(lines)) if after in lines[i])
    source = f"{Path(inspect.getsourcefile(function)).name}:{start + begin}-{start + end - 1}"
    return textwrap.dedent("".join(lines[begin:end])), source


def trl_correction(data, mode, low, high):
    method = GRPOTrainer._generate_and_score_completions
    code, source = cut(method, "per_token_logps_diff = (old_per_token_logps", "# Compute the per-token log probabilities for the reference")
    trainer = SimpleNamespace(
        vllm_importance_sampling_mode=mode, vllm_importance_sampling_clip_min=low, vllm_importance_sampling_clip_max=high
    )
    names = {
        "self": trainer,
        "torch": torch,
        "math": math,
        "mask": data["mask"],
        "old_per_token_logps": data["old_logprobs"],
        "sampling_per_token_logps": data["sampler_logprobs"],
    }
    exec(code, names)
    return names["vllm_importance_sampling_ratio"], source


def trl_advantages(kind, rewards):
    """Advantages of groups of one size."""
    size = len(rewards[0])
    flat = torch.tensor(rewards, dtype=torch.float64).flatten()
    trainer = SimpleNamespace(scale_rewards="none" if kind == "dr_grpo" else "group", normalize_advantages=False)
    if kind == "rloo":
        code, source = cut(RLOOTrainer._generate_and_score_completions, "   grouped_rewards = rewards.view(", "# Normalize advantages over")
    else:
        code, source = cut(GRPOTrainer._generate_and_score_completions, "mean_grouped_rewards = torch.nanmean(", "is_std_zero =")
    names = {"self": trainer, "torch": torch, "nanstd": nanstd, "rewards": flat, "num_generations": size}
    exec(code, names)
    return names["advantages"].view(-1, size).tolist(), source


# --- verl -----------------------------------------------------------------------------------------------------------


def verl_functions(path, names, scope):
    """Functions of an installed verl file, without importing the file."""
    file = next(f for f in distribution("verl").files if str(f) == path)
    tree = ast.parse(file.read_text())
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in names]
    assert len(found) == len(names), path
    for node in found:
        node.decorator_list, node.returns = [], None
        for argument in node.args.args + [node.args.kwarg] * bool(node.args.kwarg):
            argument.annotation = None
    exec(compile(ast.Module(found, []), path, "exec"), scope)
    return SimpleNamespace(**{name: scope[name] for name in names}, sources={n.name: f"{Path(path).name}:{n.lineno}" for n in found})


def load_verl():
    helpers = verl_functions("verl/utils/torch_functional.py", ["masked_sum", "masked_mean", "masked_var", "masked_whiten"], {"torch": torch})
    scope = {"torch": torch, "np": np, "defaultdict": defaultdict, "verl_F": helpers, "AlgoConfig": type("AlgoConfig", (), {})}
    names = [
        "agg_loss",
        "kl_penalty_forward",
        "compute_policy_loss_vanilla",
        "compute_grpo_outcome_advantage",
        "compute_rloo_outcome_advantage",
        "compute_reinforce_plus_plus_baseline_outcome_advantage",
    ]
    return verl_functions("verl/trainer/ppo/core_algos.py", names, scope)


class VerlConfig(dict):
    """The configuration that verl's losses read."""

    def __init__(self, config):
        super().__init__(clip_ratio_c=config["dual_clip"])
        self.clip_ratio = self.clip_ratio_low = config["eps_low"]
        self.clip_ratio_high = config["eps_high"]
        self.global_batch_info = {}


def verl_loss(verl, data, config, advantages):
    """The clipped loss with its dual clip, and the KL with its bounds, as a mean over tokens."""
    logprobs = data["logprobs"].clone().requires_grad_()
    loss, _ = verl.compute_policy_loss_vanilla(
        data["old_logprobs"], logprobs, advantages, data["mask"], loss_agg_mode="token-mean", config=VerlConfig(config)
    )
    if config["kl_weight"]:
        kl = verl.kl_penalty_forward(logprobs, data["reference_logprobs"], "low_var_kl")
        loss = loss + config["kl_weight"] * verl.agg_loss(kl, data["mask"], "token-mean")
    loss.backward()
    return {"loss": loss.item(), "gradient": logprobs.grad.tolist(), "clip_fraction": None, "kl": None}


def verl_advantages(verl, kind, groups, eps):
    rows = [(i, r, n) for i, (rewards, tokens) in enumerate(groups) for r, n in zip(rewards, tokens)]
    width = max(n for _, _, n in rows)
    mask = torch.tensor([[1.0] * n + [0.0] * (width - n) for _, _, n in rows], dtype=torch.float64)
    rewards = torch.zeros_like(mask)
    for row, (_, r, n) in zip(rewards, rows):
        row[n - 1] = r
    index = np.array([i for i, _, _ in rows])
    if kind == "dr_grpo":
        name, extra = "compute_grpo_outcome_advantage", {"norm_adv_by_std_in_grpo": False}
    else:
        name, extra = f"compute_{kind}_outcome_advantage", {}
    values, _ = getattr(verl, name)(rewards, mask, index, epsilon=eps, **extra)
    out = [[] for _ in groups]
    for (i, _, _), value in zip(rows, values):
        out[i].append(value[0].item())
    return out, verl.sources[name]


# --- cases ----------------------------------------------------------------------------------------------------------

DEFAULTS = dict(
    objective="clipped",
    normalisation="dapo",
    eps_low=0.2,
    eps_high=0.28,
    dual_clip=None,
    cispo_max_ratio=5.0,
    max_tokens=MAX_TOKENS,
    kl_weight=0.0,
    kl_cap=None,
)
# (name, TRL's loss_type, the settings that differ from DEFAULTS)
LOSSES = [
    ("grpo", "grpo", dict(normalisation="grpo", eps_high=0.2)),
    ("grpo_kl", "grpo", dict(normalisation="grpo", eps_high=0.2, kl_weight=0.04)),
    ("dapo", "dapo", dict()),
    ("dapo_kl", "dapo", dict(kl_weight=0.1)),
    ("dapo_two_sided", "dapo", dict(dual_clip=DUAL_CLIP)),
    ("bnpo", "bnpo", dict()),
    ("dr_grpo", "dr_grpo", dict(normalisation="dr_grpo", eps_high=0.2)),
    ("dr_grpo_kl", "dr_grpo", dict(normalisation="dr_grpo", kl_weight=0.04, dual_clip=DUAL_CLIP)),
    ("gspo", "grpo", dict(objective="gspo", normalisation="grpo", eps_low=3e-4, eps_high=4e-4)),
    ("gspo_wide", "grpo", dict(objective="gspo", normalisation="grpo")),
    ("gspo_wide_dapo_kl", "dapo", dict(objective="gspo", kl_weight=0.1, dual_clip=1.3)),
    ("cispo", "cispo", dict(objective="cispo")),
    ("cispo_kl", "cispo", dict(objective="cispo", cispo_max_ratio=1.5, kl_weight=0.1)),
]
# (rule, in TRL and in the learner; lower bound; upper bound)
CORRECTIONS = [
    ("token_truncate", 0.5, 2.0),
    ("token_mask", 0.5, 2.0),
    ("sequence_truncate", 0.8, 3.0),
    ("sequence_mask", 0.5, 3.0),
]
GROUPS = [([1.0, 0.0, 0.0, 1.0], [3, 7, 2, 5]), ([0.25, -1.0, 2.0, 0.5], [4, 1, 6, 2]), ([0.5, 0.5, 0.5, 0.5], [2, 2, 3, 1])]


def loss_cases(data, verl):
    for name, loss_type, change in LOSSES:
        config = DEFAULTS | change
        for which in ("advantages", "token_advantages"):
            yield dict(name=name, source="trl", config=config, advantages=which, correction=None) | trl_loss(
                data, config, loss_type, data[which]
            )
    for mode, low, high in CORRECTIONS:
        weights, _ = trl_correction(data, mode, low, high)
        correction = dict(rule=mode, band=dict(min=low, max=high))
        for name, loss_type, change in LOSSES:
            if name in ("grpo_kl", "dapo_two_sided", "gspo_wide", "cispo"):
                config = DEFAULTS | change
                yield dict(name=f"{name}+{mode}", source="trl", config=config, advantages="advantages", correction=correction) | trl_loss(
                    data, config, loss_type, data["advantages"], correction=weights
                )
    for name, change in [("dual_clip", dict(dual_clip=DUAL_CLIP)), ("dual_clip_kl", dict(dual_clip=1.1, kl_weight=0.1, kl_cap=10.0))]:
        config = DEFAULTS | change
        for which in ("advantages", "token_advantages"):
            advantages = data[which] if data[which].dim() == 2 else data[which][:, None].expand(data["mask"].shape)
            yield dict(name=name, source="verl", config=config, advantages=which, correction=None) | verl_loss(verl, data, config, advantages)


def split_case(data):
    """Computes `dapo` in two micro-batches, given the batch's token count; the sum must equal the loss of the whole batch."""
    total = int(data["mask"].sum())
    parts = [{k: v[rows] for k, v in data.items()} for rows in (slice(0, 2), slice(2, 5))]
    done = [trl_loss(part, DEFAULTS, "dapo", part["advantages"], total=total) for part in parts]
    out = dict(name="dapo_in_two_parts", source="trl", config=DEFAULTS, advantages="advantages", correction=None)
    return out | dict(loss=sum(d["loss"] for d in done), gradient=sum((d["gradient"] for d in done), []), clip_fraction=None, kl=None)


def correction_cases(data):
    for mode, low, high in CORRECTIONS:
        weights, source = trl_correction(data, mode, low, high)
        config = dict(rule=mode, band=dict(min=low, max=high))
        yield dict(source=f"trl {source}", config=config, weights=(weights * data["mask"]).tolist())


def advantage_cases(verl):
    groups = [dict(rewards=r, tokens=n) for r, n in GROUPS]
    for kind, eps in [("grpo", 1e-4), ("dr_grpo", 1e-4), ("rloo", 1e-4)]:
        values, source = trl_advantages(kind, [r for r, _ in GROUPS])
        yield dict(source=f"trl {source}", config=dict(estimator=kind, eps=eps), groups=groups, advantages=values)
    for kind in ("grpo", "dr_grpo", "rloo", "reinforce_plus_plus_baseline"):
        values, source = verl_advantages(verl, kind, GROUPS, 1e-6)
        yield dict(source=f"verl {source}", config=dict(estimator=kind, eps=1e-6), groups=groups, advantages=values)


def lines(items):
    """A JSON list with one item a line."""
    return "[\n" + ",\n".join("    " + json.dumps(item) for item in items) + "\n  ]"


def main():
    torch.set_num_threads(1)
    data, verl = batch(), load_verl()
    versions = {"trl": trl.__version__, "verl": version("verl"), "torch": torch.__version__, "python": platform.python_version()}
    start = inspect.getsourcelines(GRPOTrainer._compute_loss)[1]
    versions["trl_compute_loss"] = f"grpo_trainer.py:{start}"
    parts = {
        "versions": json.dumps(versions),
        "batch": json.dumps({k: v.tolist() for k, v in data.items()}),
        "losses": lines([*loss_cases(data, verl), split_case(data)]),
        "corrections": lines(correction_cases(data)),
        "advantages": lines(advantage_cases(verl)),
    }
    text = "{\n" + ",\n".join(f'  "{key}": {value}' for key, value in parts.items()) + "\n}\n"
    cases = json.loads(text)
    (HERE / "losses.json").write_text(text)
    print({key: len(cases[key]) for key in ("losses", "corrections", "advantages")}, versions)


if __name__ == "__main__":
    main()
