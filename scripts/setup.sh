#!/usr/bin/env bash
# Set-up on a Debian or Ubuntu machine: `base` makes .venv from uv.lock and compiles the
# edge's hot path if there is a C compiler. `test` adds the browser that tests drive, Java and
# Maven for the Kafka broker that they start (its jars are fetched by the first test that needs them), tshark, which
# counts packets beside us, and a C compiler, for a measure of speech and the loop that the edge is compared with.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }

apt_install() {  # install Debian packages if we may, otherwise say exactly what to run
    local missing=("$@") sudo=()
    if [ "$(id -u)" -ne 0 ]; then
        if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
            sudo=(sudo)
        else
            say "these system packages are missing and may not be installed from here. Run:"
            say "    sudo apt-get update && sudo apt-get install -y ${missing[*]}"
            exit 1
        fi
    fi
    command -v apt-get >/dev/null || { say "no apt-get here; please install: ${missing[*]}"; exit 1; }
    say "installing ${missing[*]} with apt-get"
    "${sudo[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

find_uv() {
    if command -v uv >/dev/null; then
        uv=$(command -v uv)
    else
        if [ ! -x .venv-uv/bin/uv ]; then
            command -v python3 >/dev/null && python3 -c 'import ensurepip, venv' 2>/dev/null ||
                apt_install python3 python3-venv
            say "fetching uv"
            python3 -m venv .venv-uv
            .venv-uv/bin/pip install --quiet 'uv>=0.9,<1'
        fi
        uv=$PWD/.venv-uv/bin/uv
    fi
}

base() {
    find_uv
    say "making .venv from uv.lock"
    "$uv" sync --frozen --quiet
    compile_hot_path
}

compile_hot_path() { say "the edge's hot path: $(.venv/bin/python -m relay.edge.wire.build)"; }

test_() {
    local missing=()
    command -v chromium >/dev/null || command -v google-chrome >/dev/null || missing+=(chromium)
    command -v java >/dev/null || missing+=(openjdk-17-jre-headless)
    command -v mvn >/dev/null || missing+=(maven)
    command -v tshark >/dev/null || missing+=(tshark)
    command -v cc >/dev/null || missing+=(build-essential)
    .venv/bin/python -c 'import os, sysconfig as s; raise SystemExit(not os.path.exists(s.get_path("include") + "/Python.h"))' ||
        missing+=(python3-dev)
    [ "${#missing[@]}" -eq 0 ] || apt_install "${missing[@]}"
    find_uv
    say "adding what only tests need to .venv"
    "$uv" sync --frozen --quiet --group checks --extra onnx
    compile_hot_path
}

case "${1:-}" in
    base) base ;;
    test) test_ ;;
    *) say "usage: scripts/setup.sh base|test"; exit 2 ;;
esac
