#!/usr/bin/env bash
# vLLM 0.33.0 serving casperhansen/llama-3-8b-instruct-awq on 1xT4
# Use:  bash bench.sh [smoke | vllm | guidellm | aiperf]     BASE_URL names another server,
# TOKENIZER a copy of the tokenizer on this machine, REQUESTS another number of them, CONCURRENCY another number of
# clients (the planned one is of the whole deployment, not of one replica).
set -euo pipefail

BASE_URL="${BASE_URL:-http://127.0.0.1:8000}"
MODEL=meta-llama-3-8b-instruct
planned_tokenizer=casperhansen/llama-3-8b-instruct-awq
TOKENIZER="${TOKENIZER:-$planned_tokenizer}"
INPUT_TOKENS=1024
OUTPUT_TOKENS=256
CONCURRENCY="${CONCURRENCY:-32}"
REQUESTS="${REQUESTS:-160}"

smoke() {
  local body='{"model": "meta-llama-3-8b-instruct", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 16}'
  curl -fsS --max-time 120 "$BASE_URL"/v1/chat/completions -H 'Content-Type: application/json' -d "$body"
  echo
}

# TPOT of vLLM's report is what the plan calls ITL: (end-to-end - TTFT) / (output tokens - 1).
with_vllm() {
  command -v vllm >/dev/null || { echo "install it first: pip install vllm" >&2; exit 1; }
  vllm bench serve \
    --backend vllm --endpoint /v1/completions --ignore-eos \
    --base-url "$BASE_URL" --model="$TOKENIZER" --served-model-name="$MODEL" --tokenizer="$TOKENIZER" \
    --dataset-name random --random-input-len "$INPUT_TOKENS" --random-output-len "$OUTPUT_TOKENS" \
    --num-prompts "$REQUESTS" --seed 0 \
    --request-rate inf --max-concurrency "$CONCURRENCY" \
    --percentile-metrics ttft,tpot,itl,e2el --metric-percentiles 50,90,99
}

with_guidellm() {
  command -v guidellm >/dev/null || { echo "install it first: pip install 'guidellm[recommended]>=0.8'" >&2; exit 1; }
  local backend='{"kind": "openai_http", "model": "meta-llama-3-8b-instruct"}' tokenizer='{"kind": "huggingface_auto", "model": "casperhansen/llama-3-8b-instruct-awq"}'
  [ "$TOKENIZER" = "$planned_tokenizer" ] || tokenizer="kind=huggingface_auto,model=$TOKENIZER"
  guidellm run \
    --backend "${backend%\}}, \"target\": \"$BASE_URL\"}" \
    --profile "kind=concurrent,streams=$CONCURRENCY" \
    --constraint "kind=max_requests,count=$REQUESTS" \
    --tokenizer "$tokenizer" \
    --data "kind=synthetic_text,prompt_tokens=$INPUT_TOKENS,output_tokens=$OUTPUT_TOKENS"
}

# Its ITL is what the plan calls so too: (latency - TTFT) / (output tokens - 1).
with_aiperf() {
  command -v aiperf >/dev/null || { echo "install it first: pip install 'aiperf>=0.13'" >&2; exit 1; }
  aiperf profile \
    --url "$BASE_URL" --endpoint-type chat --streaming \
    --model "$MODEL" --tokenizer "$TOKENIZER" \
    --isl "$INPUT_TOKENS" --isl-stddev 0 --osl "$OUTPUT_TOKENS" --osl-stddev 0 \
    --extra-inputs ignore_eos:true \
    --concurrency "$CONCURRENCY" \
    --request-count "$REQUESTS" --random-seed 0 --ui simple
}

case "${1:-smoke}" in
  smoke) smoke ;;
  vllm) smoke && with_vllm ;;
  guidellm) smoke && with_guidellm ;;
  aiperf) smoke && with_aiperf ;;
  *) echo "use: bash bench.sh [smoke | vllm | guidellm | aiperf]" >&2; exit 2 ;;
esac
