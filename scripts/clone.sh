#!/usr/bin/env bash
# Lets several clones of the repository share one build cache. Cargo compares modification times of files, which mean nothing between
# clones: if another clone has built last, the artefacts of the workspace's crates are removed, and those of the dependencies are kept.
set -eu
mark="$CARGO_TARGET_DIR/.clone"
here=$(pwd -P)
[ -f "$mark" ] && [ "$(cat "$mark")" = "$here" ] && exit 0
if [ -d "$CARGO_TARGET_DIR/debug" ]; then
  packages=$(cargo metadata --no-deps --format-version 1 --locked | grep -o '"name":"milepost[a-z-]*","version"' | cut -d'"' -f4 | sort -u)
  # shellcheck disable=SC2046
  cargo clean --quiet $(printf -- '--package %s ' $packages)
fi
mkdir -p "$CARGO_TARGET_DIR"
printf '%s' "$here" > "$mark"
