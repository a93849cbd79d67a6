#!/usr/bin/env bash
# The build goes where the Makefile's goes.
# Tokens a second of the trainer on the seed's shape, in bf16 and in f32. Compare tokens/cpu-s on a machine that is not idle.
set -euo pipefail
cd "$(dirname "$0")/../.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/.cache/milepost/target}"
steps="${1:-10}"
cargo build --quiet -p milepost-learners --example train_speed
bin="${CARGO_TARGET_DIR:-$HOME/.cache/milepost/target}/debug/examples/train_speed"
echo "load $(cut -d' ' -f1-3 /proc/loadavg)"
echo "== bf16 (tile instructions, where the machine has them)" && "$bin" "$steps"
echo "== f32" && "$bin" "$steps" f32
