#!/usr/bin/env bash
# One build cache serves several clones. Cargo tells fresh from stale by file times, which says nothing across clones: when another
# clone has built here, what belongs to the workspace is thrown away, and only the dependencies stay.
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
