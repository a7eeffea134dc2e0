#!/usr/bin/env bash
# vllm 0.33.0 serving ./Llama-3.1-8B-Instruct-awq on 2xA100-SXM4-80GB
# Makes Llama-3.1-8B-Instruct-awq from meta-llama/Llama-3.1-8B-Instruct with llm-compressor.
# Needs about 23 GiB of free host memory, 57 GiB of disk and an NVIDIA GPU with 5 GiB (estimated).
# The planned A100-SXM4-80GB (80.00 GiB) is enough.
# Start:  bash quantize.sh      Settings from the environment: OUT WORK PYTHON FORCE CALIBRATION HF_TOKEN
# FORCE=1 goes on where memory or disk look too small.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
planned_name=Llama-3.1-8B-Instruct-awq
OUT="${OUT:-$here/$planned_name}"
WORK="${WORK:-$here/quantize-work}"
PYTHON="${PYTHON:-python3}"
HOST_GIB=23
DISK_GIB=57
GPU_GIB=5

if [ -e "$OUT" ]; then
  echo "$OUT is there already"
  exit 0
fi

# too_small WHAT HAVE NEED
too_small() {
  echo "$1: $2 GiB, and about $3 GiB are needed" >&2
  [ "${FORCE:-}" = 1 ] || { echo "FORCE=1 goes on anyway" >&2; exit 1; }
}
if [ -r /proc/meminfo ]; then
  free_gib="$(awk '/^MemAvailable:/ {print int($2 / 1048576)}' /proc/meminfo)"
else
  free_gib="$(sysctl -n hw.memsize | awk '{print int($1 / 1073741824)}')"
fi
[ "$free_gib" -ge "$HOST_GIB" ] || too_small "free host memory" "$free_gib" "$HOST_GIB"
mkdir -p "$WORK"
disk_gib="$(df -Pk "$WORK" | awk 'NR == 2 {print int($4 / 1048576)}')"
[ "$disk_gib" -ge "$DISK_GIB" ] || too_small "free disk" "$disk_gib" "$DISK_GIB"
command -v nvidia-smi >/dev/null || { echo "calibration needs an NVIDIA GPU, and nvidia-smi is not installed" >&2; exit 1; }
gpu_gib="$(nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits | sort -n | tail -n 1 | awk '{print int($1 / 1024)}')"
[ "$gpu_gib" -ge "$GPU_GIB" ] || too_small "memory of the largest GPU" "$gpu_gib" "$GPU_GIB"

"$PYTHON" -m venv "$WORK/venv"
"$WORK/venv/bin/pip" install --quiet llmcompressor==0.14.0.1 compressed-tensors==0.19.0 datasets==4.8.4 'huggingface-hub>=0.34'
rm -rf "$OUT.partial"
"$WORK/venv/bin/python" "$here/quantize.py" "$OUT.partial" ${CALIBRATION:+"$CALIBRATION"}
mv "$OUT.partial" "$OUT"
echo "made $OUT; the plan's files load it from beside them. $WORK may be removed"
