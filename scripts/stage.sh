#!/usr/bin/env bash
# Runs a command as one stage and prints the time that it took. Usage: stage.sh NAME COMMAND…
set -u
name=$1; shift
start=$(date +%s)
echo "== $name"
"$@"; code=$?
echo "== $name: $(( $(date +%s) - start )) s (exit $code)"
exit $code
