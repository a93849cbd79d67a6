#!/usr/bin/env bash
# Installs Chromium, ChromeDriver and what build and tests need, where they are missing (Debian and its children).
set -eu
need=()
command -v cc >/dev/null 2>&1 || need+=(build-essential)
command -v c++ >/dev/null 2>&1 || need+=(build-essential)
command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || need+=(chromium)
command -v chromedriver >/dev/null 2>&1 || need+=(chromium-driver)
# The daemon is tested with the official clients of its protocols and with schemathesis, in virtual environments beside the build.
python3 -c 'import ensurepip, venv' 2>/dev/null || need+=(python3 python3-venv)
command -v curl >/dev/null 2>&1 || need+=(curl)
command -v cargo >/dev/null 2>&1 || { echo "Rust is missing: install it from https://rustup.rs and run this again" >&2; exit 1; }
[ ${#need[@]} -eq 0 ] && exit 0
if ! command -v apt-get >/dev/null 2>&1; then
  echo "missing: ${need[*]}; install them with your package manager and run this again" >&2; exit 1
fi
sudo=""
[ "$(id -u)" -eq 0 ] || sudo="sudo"
echo "installing: ${need[*]}"
$sudo apt-get update -qq
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${need[@]}" >/dev/null
