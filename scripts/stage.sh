#!/usr/bin/env bash
# Runs one stage and prints the time it took: stage.sh NAME COMMAND…
set -u
name=$1; shift
start=$(date +%s)
echo "== $name"
"$@"; code=$?
echo "== $name: $(( $(date +%s) - start )) s (exit $code)"
exit $code
