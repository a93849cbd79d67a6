#!/usr/bin/env bash
# Creates a Python environment with the official OpenAI and MCP clients in DIRECTORY, unless it exists already, and prints the path of its
# interpreter. Usage: clients.sh DIRECTORY
set -eu
versions="openai==3.54.0 mcp==2.3.0"
directory=$1
python=$directory/bin/python
if [ "$(cat "$directory/versions" 2>/dev/null)" != "$versions" ]; then
  mkdir -p "$(dirname "$directory")"
  # Only one process creates the environment at a time; the others wait and then find it complete.
  exec 9>"$directory.lock"
  flock 9
  if [ "$(cat "$directory/versions" 2>/dev/null)" != "$versions" ]; then
    rm -rf "$directory"
    python3 -m venv "$directory" >&2 || { echo "python3 with venv is missing; install it (python3-venv) and run this again" >&2; exit 1; }
    # shellcheck disable=SC2086
    "$python" -m pip install --quiet --disable-pip-version-check $versions >&2 ||
      { echo "PyPI cannot be reached, or lacks one of: $versions" >&2; exit 1; }
    echo "$versions" > "$directory/versions"
  fi
fi
echo "$python"
