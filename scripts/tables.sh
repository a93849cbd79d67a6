#!/usr/bin/env bash
# Measures the tables of the suite at full size in real Chromium, which takes hours on two cores. Usage: tables.sh BINARY [OUT]
set -eu
milepost=$1
out=${2:-docs/results}
cd "$(dirname "$0")/.."
mkdir -p "$out"
[ "$(id -u)" -eq 0 ] && export MILEPOST_BROWSER__NO_SANDBOX=true
export MILEPOST_EPISODES__DIRECTORY=${MILEPOST_EPISODES__DIRECTORY:-runs/tables}
row() { # file, arguments…
  local file=$1; shift
  echo "== milepost suite run $*"
  "$milepost" suite run "$@" --json | tee "$out/$file.json"
}
echo "== kill -9 in the middle of a run, 20 times"
KILLS=20 cargo test --locked --test browser_whole killed_run
row oracle-easy --oracle --templates all --level easy --episodes 200
row oracle-medium --oracle --templates all --level medium --episodes 280
row oracle-long --oracle --templates all --level long --episodes 160
for planner in adaplan frozen react; do
  row "$planner-easy" --planner "$planner" --level easy --episodes 100
  row "$planner-medium" --planner "$planner" --level medium --episodes 100
  row "$planner-long" --planner "$planner" --level long --episodes 60
  row "$planner-held-out" --planner "$planner" --templates held-out --episodes 30
done
scripts/results.py
