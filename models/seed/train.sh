#!/usr/bin/env bash
# Trains the seed model again, from nothing, on oracle demonstrations of the bundled suite: train.sh BINARY
set -eu
cd "$(dirname "$0")/../.."
"$1" --config models/seed/recipe.yaml learn sft --out runs/seed
cp runs/seed/model/* models/seed/
"$1" learn plot runs/seed/metrics.jsonl --out models/seed/curve.svg
