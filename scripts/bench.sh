#!/usr/bin/env bash
# Runs the benchmarks: the time per action and per step in real Chromium, then the trainer's speed. Usage: bench.sh BINARY
set -eu
cd "$(dirname "$0")/.."
[ "$(id -u)" -eq 0 ] && export MILEPOST_BROWSER__NO_SANDBOX=true
export MILEPOST_EPISODES__DIRECTORY=$(mktemp -d)
echo "== model and page, medians over 20 episodes"
"$1" suite run --level easy --episodes 20 --json
echo "== trainer, when the machine has come to rest"
for _ in $(seq 60); do
  awk -v cores="$(nproc)" '{ exit $1 > 0.5 * cores }' /proc/loadavg && break
  sleep 10
done
benches/learner/run.py
