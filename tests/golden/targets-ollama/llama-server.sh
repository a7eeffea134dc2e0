#!/usr/bin/env bash
# ollama 0.33.0 serving bartowski/Meta-Llama-3.1-8B-Instruct-GGUF on 1xA100-SXM4-80GB
# llama.cpp's own server with the planned limits.  Install: brew install llama.cpp, winget install llama.cpp, or a release.
# Start:  bash llama-server.sh      Settings from the environment: LLAMA_SERVER BIND PORT
# On Windows the same words follow llama-server.exe; a container there and on macOS has no GPU.
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
