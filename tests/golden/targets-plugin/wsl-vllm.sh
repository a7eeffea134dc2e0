#!/usr/bin/env bash
# vllm 0.33.0 serving meta-llama/Llama-3.1-8B-Instruct on 2xA100-SXM4-80GB
# Inside WSL2: installs the planned vLLM into a virtual environment once, then serves. windows.ps1 starts it.
set -euo pipefail

VENV="${VENV:-$HOME/.local/share/llm-llama3-1-8b/venv}"
command -v nvidia-smi >/dev/null || { echo "WSL2 sees no NVIDIA GPU: update the driver of Windows, then wsl --update" >&2; exit 1; }
if [ ! -x "$VENV/bin/vllm" ]; then
  python3 -m venv "$VENV" || { echo "install it first: sudo apt-get install --yes python3-venv" >&2; exit 1; }
  "$VENV/bin/pip" install --quiet vllm==0.33.0 vllm-bnb-plugin==0.0.3 bitsandbytes==0.50.2
fi
command_line=(
  meta-llama/Llama-3.1-8B-Instruct
  --revision=0e9e39f249a16976918f6564b8830bc894c89659
  --served-model-name=llama3.1-8b
  --tensor-parallel-size=2
  --max-model-len=8192
  --max-num-seqs=64
  --max-num-batched-tokens=8192
  --gpu-memory-utilization=0.9
  --host=127.0.0.1
  --port=8000
)
exec "$VENV/bin/vllm" serve "${command_line[@]}"
