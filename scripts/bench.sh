#!/usr/bin/env bash
# Benchmarks: the trainer's speed, and time per action and per step in real Chromium: bench.sh BINARY
set -eu
cd "$(dirname "$0")/.."
[ "$(id -u)" -eq 0 ] && export MILEPOST_BROWSER__NO_SANDBOX=true
export MILEPOST_EPISODES__DIRECTORY=$(mktemp -d)
echo "== trainer"
benches/learner/run.py
echo "== model and page, medians over 20 episodes"
"$1" suite run --level easy --episodes 20 --json
