#!/usr/bin/env python3
"""The other side of the learner's benchmark: the same work in torch, transformers, PEFT and TRL.

    torch_side.py ROW [--bf16] [--checkpointing] [--json]

Rows: `flat` (LoRA on SmolLM-135M's shape), `full` (all parameters of a small Qwen3), `agent_group` (one GRPO step on eight
recorded completions of one prompt), `machine` (a matrix product). Two threads, the fastest settings found for each.
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from itertools import cycle

THREADS = 2
# OpenMP reads these when torch is loaded; a program that preloads OpenMP reads them when it starts.
ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "OMP_NUM_THREADS": str(THREADS),
    "MKL_NUM_THREADS": str(THREADS),
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
MAX_LOAD = 0.5
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PROMPT, COMPLETION, GROUP = 768, 48, 8
# (rows per micro-batch, checkpointing) of `agent_group`; the fastest setting that fits into memory is taken.
SETTINGS = [(8, False), (4, False), (2, False), (1, False), (8, True)]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", choices=["flat", "full", "agent_group", "machine"])
    parser.add_argument("--bf16", action="store_true", help="bf16 autocast; in `machine`, a product of bf16 matrices")
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing (flat, agent_group)")
    parser.add_argument("--micro-batch", type=int, help="agent_group: rows at once, instead of trying all settings")
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--small", action="store_true", help="tiny shapes, to see that it runs")
    parser.add_argument("--force", action="store_true", help="run on a busy machine")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


def environment(args):
    """Returns the environment variables of a run.

    If a hypervisor hides CPUID leaf 1Dh, oneDNN cannot read the size of a tile, but still uses the tile unit that leaf 7 announces, and the
    first tile instruction is illegal. Tiles are therefore turned off for bf16 on such machines.
    """
    with open("/proc/cpuinfo") as f:
        cpu = dict(map(str.strip, line.split(":", 1)) for line in f.read().split("\n\n")[0].splitlines() if ":" in line)
    no_palette = "amx_tile" in cpu.get("flags", "").split() and int(cpu.get("cpuid level", 0)) < 0x1D
    return ENVIRONMENT | ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_FP16"} if args.bf16 and no_palette else {})


def note(result):
    """Returns the remarks on the figures in one line, or None."""
    isa = os.environ.get("ONEDNN_MAX_CPU_ISA")
    parts = [result.get("setting"), result.get("stub"), isa and f"oneDNN limited to {isa}: no tile unit for torch on this machine"]
    return "; ".join(filter(None, parts)) or None


def load_per_core():
    return os.getloadavg()[0] / len(os.sched_getaffinity(0))


def status_bytes(path, key):
    """Returns the value of a `key: N kB` line of a file in /proc, in bytes."""
    with open(path) as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith(key + ":"))


def smollm(small):
    from transformers import LlamaConfig

    shape = dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, vocab_size=49152)
    if small:
        shape = dict(hidden_size=72, intermediate_size=96, num_hidden_layers=2, vocab_size=512)
    heads = dict(num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=2048)
    return LlamaConfig(**shape, **heads, rms_norm_eps=1e-5, tie_word_embeddings=True, use_cache=False)


def qwen3(small):
    from transformers import Qwen3Config

    shape = dict(hidden_size=256, intermediate_size=768, num_hidden_layers=4)
    if small:
        shape = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2)
    heads = dict(num_attention_heads=4, num_key_value_heads=2, head_dim=64, max_position_embeddings=2048)
    return Qwen3Config(**shape, **heads, vocab_size=1024, tie_word_embeddings=True, use_cache=False)


def random_model(config):
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa").train()


def lora():
    from peft import LoraConfig

    return LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=TARGETS, bias="none", task_type="CAUSAL_LM")


def timed(step, args):
    """Returns the wall and CPU seconds of each step after the warm-up, and the result of the last step."""
    seconds, cpu, last = [], [], None
    for index in range(args.warmup + args.steps):
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        last = step()
        if index >= args.warmup:
            seconds.append(time.perf_counter() - wall_start)
            cpu.append(time.process_time() - cpu_start)
    return {"seconds": seconds, "cpu_seconds": cpu}, last


def train(model, rows, length, args):
    """Forward, backward and one AdamW step on a batch of random tokens."""
    import torch

    vocab = model.config.vocab_size
    batches = cycle([torch.randint(0, vocab, (rows, length)) for _ in range(4)])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)

    def step():
        tokens = next(batches)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    times, loss = timed(step, args)
    return times | {"tokens": rows * length, "loss": loss, "setting": "sdpa, AdamW(fused=True)"}


def flat(args):
    from peft import get_peft_model

    model = random_model(smollm(args.small))
    if args.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return train(get_peft_model(model, lora()), 4, 32 if args.small else 256, args)


def full(args):
    return train(random_model(qwen3(args.small)), 32, 16 if args.small else 256, args)


def machine(args):
    import torch

    n, repeats = (128 if args.small else 1024), 10
    a, b = torch.randn(2, n, n, dtype=torch.bfloat16 if args.bf16 else torch.float32)
    out = torch.empty_like(a)

    def step():
        for _ in range(repeats):
            torch.matmul(a, b, out=out)

    times, _ = timed(step, args)
    times = {key: [s / repeats for s in values] for key, values in times.items()}
    return times | {"tokens": 0, "gflops": 2e-9 * n**3 / statistics.median(times["seconds"])}


def fastest_setting(args):
    """Tries every setting in its own process; returns the fastest one that fits into memory, and the time or the error of each."""
    tried, best = {}, None
    for micro_batch, checkpointing in SETTINGS:
        command = [sys.executable, __file__, "agent_group", "--json", "--force", "--warmup=1", "--steps=1"]
        command += [f"--micro-batch={micro_batch}"] + ["--checkpointing"] * checkpointing
        command += ["--bf16"] * args.bf16 + ["--small"] * args.small
        trial = subprocess.run(command, capture_output=True, text=True)
        name = f"{micro_batch} rows at once" + ", checkpointing" * checkpointing
        if trial.returncode != 0:
            tried[name] = f"exit {trial.returncode}: {trial.stderr[-300:]}"
            continue
        tried[name] = json.loads(trial.stdout)["seconds"][0]
        if best is None or tried[name] < best[0]:
            best = (tried[name], micro_batch, checkpointing)
    if best is None:
        sys.exit(f"no setting of agent_group ran: {json.dumps(tried, indent=2)}")
    return best[1], best[2], tried


def agent_group(args):
    tried = None
    if args.micro_batch is None:
        args.micro_batch, args.checkpointing, tried = fastest_setting(args)
    with tempfile.TemporaryDirectory() as directory:
        trainer, clock = grpo_trainer(args, directory)
        trainer.train()
    setting = f"{args.micro_batch} rows at once, {GROUP // args.micro_batch} accumulated, checkpointing {args.checkpointing}"
    return {
        "seconds": clock.seconds[args.warmup :],
        "cpu_seconds": clock.cpu_seconds[args.warmup :],
        "tokens": trainer.recorded["prompt_ids"].numel() + trainer.recorded["completion_ids"].numel(),
        "trained_tokens": trainer.recorded["completion_ids"].numel(),
        "loss": trainer.state.log_history[-1].get("train_loss"),
        "setting": setting + ", sdpa, adamw_torch_fused",
        "stub": "GRPOTrainer._generate_and_score_completions returns the recorded group; the rest of train() is TRL's",
        "tried_seconds": tried,
    }


def recorded_group(vocab, prompt):
    """Returns the group that TRL's generation would return: one prompt eight times, eight completions, normalised rewards."""
    import torch

    g = torch.Generator().manual_seed(1)
    rewards = torch.tensor([1.0, 0, 0, 1, 0, 1, 0, 0])
    completions = torch.randint(2, vocab, (GROUP, COMPLETION), generator=g)
    prompts = torch.randint(2, vocab, (1, prompt), generator=g).repeat(GROUP, 1)
    return {
        "prompt_ids": prompts,
        "prompt_mask": torch.ones_like(prompts),
        "completion_ids": completions,
        "completion_mask": torch.ones_like(completions),
        "advantages": (rewards - rewards.mean()) / (rewards.std() + 1e-4),
        "num_items_in_batch": torch.tensor(float(completions.numel())),
    }


def grpo_trainer(args, directory):
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    class Recorded(GRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            return dict(self.recorded)

    class Clock(TrainerCallback):
        def __init__(self):
            self.seconds, self.cpu_seconds = [], []

        def on_step_begin(self, *_, **__):
            self.start = time.perf_counter(), time.process_time()

        def on_step_end(self, *_, **__):
            self.seconds.append(time.perf_counter() - self.start[0])
            self.cpu_seconds.append(time.process_time() - self.start[1])

    model, clock = random_model(smollm(args.small)), Clock()
    vocabulary = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))
    config = GRPOConfig(
        output_dir=directory,
        per_device_train_batch_size=args.micro_batch,
        gradient_accumulation_steps=GROUP // args.micro_batch,
        num_generations=GROUP,
        max_completion_length=COMPLETION,
        max_steps=args.warmup + args.steps,
        learning_rate=1e-5,
        beta=0.0,
        bf16=args.bf16,
        gradient_checkpointing=args.checkpointing,
        optim="adamw_torch_fused",
        use_cpu=True,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Recorded(
        model=model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=config,
        train_dataset=Dataset.from_dict({"prompt": ["<eos>"] * 64}),
        processing_class=PreTrainedTokenizerFast(tokenizer_object=vocabulary, pad_token="<pad>", eos_token="<eos>"),
        peft_config=lora(),
        callbacks=[clock],
    )
    trainer.recorded = recorded_group(model.config.vocab_size, 64 if args.small else PROMPT)
    return trainer, clock


def main():
    args = arguments()
    wanted = environment(args)
    if any(os.environ.get(k) != v for k, v in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)
    load = load_per_core()
    if load > MAX_LOAD and not args.force:
        print(f"load {load:.2f} per core is above {MAX_LOAD}: wait until the machine is idle, or pass --force", file=sys.stderr)
        sys.exit(3)
    # With this limit a setting that does not fit into memory fails with an error, instead of making the kernel kill some process.
    limit = status_bytes("/proc/meminfo", "MemAvailable") * 95 // 100
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    import torch

    torch.set_num_threads(THREADS)
    with contextlib.redirect_stdout(sys.stderr):
        result = globals()[args.row](args)
    result = {
        "row": args.row + "_checkpointing" * (args.row == "flat" and args.checkpointing) + "_bf16" * args.bf16,
        **result,
        "note": note(result),
        "small": args.small,
        "load_per_core_at_start": load,
        "onednn_max_cpu_isa": os.environ.get("ONEDNN_MAX_CPU_ISA"),
        "peak_rss_bytes": status_bytes("/proc/self/status", "VmHWM"),
        "versions": {p: version(p) for p in ("torch", "transformers", "peft", "trl")} | {"python": sys.version.split()[0]},
    }
    if args.json:
        print(json.dumps(result))
    else:
        median = statistics.median(result["seconds"])
        rate = f"{result['gflops']:.0f} GFLOP/s" if "gflops" in result else f"{result['tokens'] / median:.0f} tokens/s"
        print(f"{result['row']}: {median:.4g} s a step, {rate}, {result['peak_rss_bytes'] / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
