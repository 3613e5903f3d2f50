#!/bin/sh
# Builds the plugin, holds it against the contract and against FAISS called directly; skips with one line where
# FAISS is not installed. CI=true as root installs it. VQ_HOST names the host's binary.
set -eu
cd "$(dirname "$0")"
compiles() { printf '#include <faiss/Index.h>\n' | c++ -std=c++17 -E -x c++ - > /dev/null 2>&1; }
if ! compiles && [ "${CI:-}" = true ] && [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
  { apt-get update && apt-get install -y --no-install-recommends libfaiss-dev libopenblas-dev; } > /dev/null 2>&1 || true
fi
compiles || { echo "skipped: libfaiss-dev is not installed"; exit 0; }
make
make check
# That two programs call FAISS alike shows on fewer rows; 5000 of them take OPQ and RQ minutes.
ROWS=2000 make compare
make names
