#!/usr/bin/env python3
"""Runs both sides of the learner's benchmark with two threads each, and writes target/bench/learner.json.

    benches/learner/run.py [ROW ...] [--force]

The baseline runs in its own virtual environment (target/bench/venv), made from requirements.txt on first use. Refuses to report when the
parity tests fail or the machine is busy, unless --force.
"""
import json, os, platform, statistics, subprocess, sys, venv

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
OUT = os.path.join(ROOT, "target", "bench")
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.expanduser("~/.cache/milepost/target"))
# The number of processes per side whose memory is measured; the median is reported.
MEMORY_RUNS = 3
# name: (our arguments, the baseline's arguments, the compared quantity); in `storage` rows both sides are our own trainer
ROWS = {
    "flat": (["flat"], ["flat"], "speed"),
    "flat_bf16": (["flat", "--bf16"], ["flat", "--bf16"], "speed"),
    "flat_memory": (["flat_recompute"], ["flat", "--checkpointing"], "memory"),
    "flat_memory_plain": (["flat_recompute"], ["flat"], "memory"),
    "recompute_speed": (["flat_recompute"], ["flat", "--checkpointing"], "speed"),
    "agent_group": (["agent_group"], ["agent_group"], "speed"),
    "qlora_memory": (["flat", "--q8"], ["flat"], "storage"),
    "qlora_memory_q4k": (["wide", "--q4k"], ["wide"], "storage"),
    "full": (["full"], ["full"], "speed"),
    "full_bf16_ours": (["full", "--bf16"], ["full"], "speed"),
}


def python():
    path = os.path.join(OUT, "venv")
    binary = os.path.join(path, "bin", "python")
    if not os.path.exists(binary):
        venv.create(path, with_pip=True)
        subprocess.run([binary, "-m", "pip", "install", "-q", "-r", os.path.join(os.path.dirname(__file__), "requirements.txt")], check=True)
    return os.environ.get("MILEPOST_BENCH_PYTHON", binary)


def run(command, seen, times):
    """Runs a command until there are `times` reports of it, including those of earlier rows; returns all reports."""
    reports = seen.setdefault(" ".join(command[1:]), [])
    environment = dict(os.environ, RAYON_NUM_THREADS="2", OMP_NUM_THREADS="2", OMP_WAIT_POLICY="PASSIVE")
    while len(reports) < times:
        answer = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout
        reports.append(json.loads(answer.strip().splitlines()[-1]))
    return reports


def memory_row(name, ours, baseline):
    a, b = [[report["peak_rss_bytes"] for report in side] for side in (ours, baseline)]
    middle, theirs = statistics.median(a), statistics.median(b)
    return {"name": name, "ours": middle, "baseline": theirs, "ratio": middle / theirs, "n": min(len(a), len(b)), "iqr": None,
            "range": [min(a), max(a)], "baseline_range": [min(b), max(b)], "unit": "bytes"}


def storage_row(name, ours, baseline):
    """Compares the bytes of the linear weights and the gradient norms of the first batch; both are the same in every run."""
    a, b = ours["linear_bytes"], baseline["linear_bytes"]
    norm, whole = ours["first_grad_norm"], baseline["first_grad_norm"]
    return {"name": name, "ours": a, "baseline": b, "ratio": a / b, "n": 1, "iqr": None, "unit": "bytes", "grad_norm_ours": norm,
            "grad_norm_baseline": whole, "grad_norm_ratio": norm / whole, "note": "both sides are ours: small against F32 storage"}


def row(name, ours, baseline, kind):
    if kind == "memory":
        return memory_row(name, ours, baseline)
    ours, baseline = ours[0], baseline[0]
    if kind == "storage":
        return storage_row(name, ours, baseline)
    speeds = [side["tokens"] / statistics.median(side["seconds"]) for side in (ours, baseline)]
    q = statistics.quantiles([ours["tokens"] / s for s in ours["seconds"]], n=4)
    return {"name": name, "ours": speeds[0], "baseline": speeds[1], "ratio": speeds[0] / speeds[1], "n": len(ours["seconds"]),
            "iqr": [q[0], q[2]], "unit": "tokens/s", "note": baseline.get("note")}


def main():
    names = [a for a in sys.argv[1:] if not a.startswith("--")] or list(ROWS)
    force = "--force" in sys.argv
    if os.getloadavg()[0] / os.cpu_count() > 0.5 and not force:
        sys.exit(f"the machine is busy (load {os.getloadavg()[0]:.1f}); wait, or give --force")
    subprocess.run(["cargo", "test", "--quiet", "--locked", "-p", "milepost-learners", "--test", "golden"], cwd=ROOT, check=True)
    subprocess.run(["cargo", "build", "--quiet", "--locked", "-p", "milepost-learners", "--example", "learner_rows"], cwd=ROOT, check=True)
    ours_binary, seen, rows, versions = os.path.join(TARGET, "debug", "examples", "learner_rows"), {}, [], {}
    torch_side = os.path.join(os.path.dirname(os.path.abspath(__file__)), "torch_side.py")
    interpreter = python() if any(ROWS[name][2] != "storage" for name in names) else None
    for name in names:
        ours, theirs, kind = ROWS[name]
        times = MEMORY_RUNS if kind == "memory" else 1
        a = run([ours_binary, *ours], seen, times)
        baseline = [ours_binary, *theirs] if kind == "storage" else [interpreter, torch_side, *theirs, "--json", "--force"]
        b = run(baseline, seen, times)
        versions.update(b[0].get("versions", {}))
        rows.append(row(name, a, b, kind))
        last = rows[-1]
        print(f"{name:18} ours {last['ours']:.5g} baseline {last['baseline']:.5g} {last['unit']} ratio {last['ratio']:.2f}", flush=True)
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.processor())
    report = {"machine": {"cpu": cpu, "threads": 2, "load": os.getloadavg()[0]}, "versions": versions, "rows": rows}
    os.makedirs(OUT, exist_ok=True)
    with open(os.path.join(OUT, "learner.json"), "w") as file:
        json.dump(report, file, indent=1)


if __name__ == "__main__":
    main()
