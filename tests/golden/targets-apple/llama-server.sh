#!/usr/bin/env bash
# ollama 0.33.0 serving bartowski/Meta-Llama-3.1-8B-Instruct-GGUF on 1xM3 Max
# llama.cpp's own server with the planned limits.  Install: brew install llama.cpp, winget install llama.cpp, or a release.
# Start:  bash llama-server.sh      Settings from the environment: LLAMA_SERVER BIND PORT
# On Windows the same words follow llama-server.exe; a container there and on macOS has no GPU.
# Memory:   the plan takes 54.96 GiB of the 60.00 GiB that the GPU may use.
#           To raise that until the next restart: sudo sysctl iogpu.wired_limit_mb=57301
set -euo pipefail

LLAMA_SERVER="${LLAMA_SERVER:-llama-server}"
command -v "$LLAMA_SERVER" >/dev/null || { echo "llama-server is not installed: https://github.com/ggml-org/llama.cpp" >&2; exit 1; }

command_line=(
  --hf-repo
  bartowski/Meta-Llama-3.1-8B-Instruct-GGUF:Q4_K_M
  --alias
  llama3.1-8b
  --ctx-size
  32768
  --parallel
  4
)
exec "$LLAMA_SERVER" "${command_line[@]}" --metrics --host "${BIND:-127.0.0.1}" --port "${PORT:-8080}"
