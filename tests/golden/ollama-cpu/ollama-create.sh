#!/usr/bin/env bash
# Ollama 0.33.0, model llama3.1-8b
# Creates the model of the Modelfile beside this script and tries it.
# The limits of the server are its environment: `bash ollama-create.sh serve` starts one that has them.
set -euo pipefail

MODEL=llama3.1-8b
export OLLAMA_HOST="${OLLAMA_HOST:-127.0.0.1:11434}"
export OLLAMA_CONTEXT_LENGTH=8192
export OLLAMA_FLASH_ATTENTION=1
export OLLAMA_KEEP_ALIVE=-1
export OLLAMA_LOAD_TIMEOUT=300s
export OLLAMA_MAX_LOADED_MODELS=1
export OLLAMA_MAX_QUEUE=128
export OLLAMA_NUM_PARALLEL=4
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

command -v ollama >/dev/null || { echo "ollama is not installed: https://ollama.com/download" >&2; exit 1; }
if [ "${1:-}" = serve ]; then
  exec ollama serve
fi

if ! ollama list >/dev/null 2>&1; then
  echo "no Ollama server at $OLLAMA_HOST: starting one with the planned limits; its log is ollama-serve.log"
  nohup ollama serve >>"$here/ollama-serve.log" 2>&1 &
  deadline=$((SECONDS + 60))
  until ollama list >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || { echo "the server did not start; see $here/ollama-serve.log" >&2; exit 1; }
    sleep 1
  done
else
  echo "using the server at $OLLAMA_HOST; it keeps its own limits. For the planned ones, stop it and run this again"
fi

ollama create "$MODEL" -f "$here/Modelfile"
ollama run "$MODEL" "Answer with one word: ready?"
ollama ps
echo "OpenAI endpoint: http://$OLLAMA_HOST/v1   model: $MODEL"
