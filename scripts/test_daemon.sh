#!/usr/bin/env bash
# Measures the daemon's tables at full size and writes target/test/daemon.json. Environment variables lower the counts: DAEMON_KILLS=3 …
set -u
cd "$(dirname "$0")/.."
export DAEMON_KILLS=${DAEMON_KILLS:-30} DAEMON_TASKS=${DAEMON_TASKS:-200} DAEMON_CROWD=${DAEMON_CROWD:-1000}
export DAEMON_EXAMPLES=${DAEMON_EXAMPLES:-100} DAEMON_PAIRS=${DAEMON_PAIRS:-15} DAEMON_ROUND_TASKS=${DAEMON_ROUND_TASKS:-20}
export DAEMON_FIGURES=$PWD/target/test/daemon
rm -rf "$DAEMON_FIGURES" target/test/daemon.json
mkdir -p "$DAEMON_FIGURES"
ulimit -n "$(ulimit -Hn)"
code=0
cargo test --locked --no-fail-fast --test daemon --test daemon_tables -- --test-threads=1 --nocapture "$@" || code=$?
python3 - "$DAEMON_FIGURES" target/test/daemon.json <<'PYTHON'
import json, pathlib, sys
rows = {file.stem: json.loads(file.read_text()) for file in sorted(pathlib.Path(sys.argv[1]).glob("*.json"))}
kills = rows.get("kills", {})
whole = {key: kills[key] for key in ("lost", "repeated", "orphans") if key in kills} | rows
text = json.dumps(whole, indent=2)
pathlib.Path(sys.argv[2]).write_text(text + "\n")
print(text)
PYTHON
exit $code
