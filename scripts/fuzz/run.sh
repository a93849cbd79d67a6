#!/usr/bin/env bash
# Generates requests from a daemon's OpenAPI document and checks every answer against it. Usage: TOKEN=… fuzz/run.sh ADDRESS EXAMPLES REPORT
# The generator, schemathesis, is installed once from PyPI into a virtual environment in the build directory.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
address=$1 examples=$2 report=$3
version=4.32.5
tools=${CARGO_TARGET_DIR:-$HOME/.cache/milepost/target}/tools/schemathesis-$version
tools=$(realpath -m "$tools")
if [ ! -f "$tools/complete" ]; then
  rm -rf "$tools"
  python3 -m venv "$tools"
  "$tools/bin/pip" install -q --disable-pip-version-check "schemathesis==$version"
  touch "$tools/complete"
fi
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cd "$work"
code=0
PYTHONPATH=$here SCHEMATHESIS_HOOKS=hooks "$tools/bin/st" run "$address/openapi.json" -H "Authorization: Bearer $TOKEN" \
  --checks all --max-examples "$examples" --seed "${SEED:-1}" --continue-on-failure --no-shrink --generation-database none --suppress-health-check filter_too_much \
  --request-timeout 30 --no-color --report json --report-json-path report.json || code=$?
"$tools/bin/python" - report.json "$report" <<'PYTHON'
import json, sys
said = json.load(open(sys.argv[1]))
failures = {failure["type"]: failure["count"] for failure in said["failures"]}
errors = failures.pop("ServerError", 0)
json.dump({
    "tool": f"schemathesis {said['schemathesis_version']}", "operations": said["operations"]["tested"], "calls": said["test_cases"]["generated"],
    "server_errors": errors, "contract_breaks": sum(failures.values()), "kinds": failures, "broken": len(said["errors"]), "seed": said["seed"],
}, open(sys.argv[2], "w"))
PYTHON
exit $code
