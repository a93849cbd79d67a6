#!/usr/bin/env bash
# Computes the golden numbers again with transformers, PEFT, TRL, verl and gguf, in a virtual environment in target/golden.
set -eu
cd "$(dirname "$0")/../../.."
venv=target/golden
[ -x "$venv/bin/python" ] || { python3 -m venv "$venv"; "$venv/bin/pip" install -q -r benches/learner/requirements.txt; "$venv/bin/pip" install -q --no-deps verl==0.9.1; }
"$venv/bin/python" learners/tests/golden/parity.py
"$venv/bin/python" learners/tests/golden/losses.py
"$venv/bin/pip" install -q gguf==0.19.0
"$venv/bin/python" learners/tests/golden/q4k.py
