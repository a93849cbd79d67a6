#!/usr/bin/env bash
# Runs one unseen task of each level live in a real browser, then says in three lines what happened: demo.sh BINARY
set -u
milepost=$1
cd "$(dirname "$0")/.."
if [ "$(id -u)" -eq 0 ]; then
  export MILEPOST_BROWSER__NO_SANDBOX=true
  echo "!! running as root: Chromium runs without its sandbox, on the bundled site only"
fi
export MILEPOST_EPISODES__SCREENSHOTS=all
exec "$milepost" suite demo
