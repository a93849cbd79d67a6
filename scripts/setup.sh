#!/usr/bin/env bash
# Installs missing packages (on Debian and its derivatives). Usage: setup.sh [build|browser|tests]…; without arguments, all three.
#   build    a C and C++ compiler for crates that compile C
#   browser  Chromium and ChromeDriver
#   tests    Python's virtual environments and curl, for the official clients of the daemon's protocols and for schemathesis
set -eu
[ $# -gt 0 ] || set -- build browser tests
need=()
for part in "$@"; do
  case $part in
    build)
      command -v cc >/dev/null 2>&1 && command -v c++ >/dev/null 2>&1 || need+=(build-essential)
      command -v cargo >/dev/null 2>&1 || { echo "Rust is missing: install it from https://rustup.rs and run this again" >&2; exit 1; } ;;
    browser)
      command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || need+=(chromium)
      command -v chromedriver >/dev/null 2>&1 || need+=(chromium-driver) ;;
    tests)
      python3 -c 'import ensurepip, venv' 2>/dev/null || need+=(python3 python3-venv)
      command -v curl >/dev/null 2>&1 || need+=(curl) ;;
    *) echo "$part is no part of the setup; use build, browser or tests" >&2; exit 2 ;;
  esac
done
[ ${#need[@]} -eq 0 ] && exit 0
if ! command -v apt-get >/dev/null 2>&1; then
  echo "missing: ${need[*]}; install them with your package manager and run this again" >&2; exit 1
fi
sudo=""
[ "$(id -u)" -eq 0 ] || sudo="sudo"
echo "installing: ${need[*]}"
$sudo apt-get update -qq
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${need[@]}" >/dev/null
