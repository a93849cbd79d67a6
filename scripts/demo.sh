#!/usr/bin/env bash
# Installs Chromium and at the same time builds the smallest binary that runs tasks, then runs one unseen task of each level with the live
# view in a real browser. Usage: demo.sh BINARY
set -u
milepost=$1
cd "$(dirname "$0")/.."
start=$(date +%s)
scripts/setup.sh build && scripts/clone.sh || exit 1
scripts/stage.sh "Chromium" scripts/setup.sh browser &
browser=$!
# The binary is built without the daemon, MCP and mistralrs, because the native engine serves the seed model. `make build` adds them.
scripts/stage.sh "build" cargo build --locked --no-default-features --bin milepost
built=$?
wait "$browser" && [ $built -eq 0 ] || exit 1
if [ "$(id -u)" -eq 0 ]; then
  export MILEPOST_BROWSER__NO_SANDBOX=true
  echo "!! running as root: Chromium runs without its sandbox, on the bundled site only"
fi
export MILEPOST_EPISODES__SCREENSHOTS=all
echo "== from nothing to the first action: $(( $(date +%s) - start )) s"
scripts/stage.sh "demo" "$milepost" suite demo
