#!/usr/bin/env bash
# tgi 3.3.7 serving meta-llama/Llama-3.1-8B-Instruct on 2xGaudi 3
# Start:  bash docker-run.sh      Stop:  docker rm --force "$NAME-0"
# Settings from the environment: NAME PORT BIND IMAGE START_BUDGET_S HF_TOKEN HF_TOKEN_FILE
set -euo pipefail

NAME="${NAME:-llm-llama3-1-8b-tgi}"
BIND="${BIND:-127.0.0.1}"
PORT="${PORT:-8080}"
# The tag follows the release pattern; nobody has confirmed that the registry holds it.
planned_image=ghcr.io/huggingface/text-generation-inference:3.3.7-gaudi
IMAGE="${IMAGE:-$planned_image}"
HEALTH=/health
START_BUDGET_S="${START_BUDGET_S:-905}"

for tool in docker curl; do
  command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 1; }
done
docker info >/dev/null 2>&1 || { echo "the docker daemon does not answer" >&2; exit 1; }

# The token goes from the environment or a file to the container; it is written nowhere.
if [ -z "${HF_TOKEN:-}" ] && [ -n "${HF_TOKEN_FILE:-}" ]; then
  HF_TOKEN="$(tr -d '\r\n' <"$HF_TOKEN_FILE")"
fi
if [ -z "${HF_TOKEN:-}" ]; then
  echo "this model is gated: accept its licence on huggingface.co, then set HF_TOKEN or HF_TOKEN_FILE" >&2
  exit 1
fi

command_line=(
  --model-id=meta-llama/Llama-3.1-8B-Instruct
  --revision=0e9e39f249a16976918f6564b8830bc894c89659
  --num-shard=2
  --max-input-tokens=7936
  --max-total-tokens=8192
  --max-batch-prefill-tokens=8192
  --max-batch-total-tokens=262144
  --max-concurrent-requests=64
  --max-batch-size=64
  --cuda-memory-fraction=0.95
  --hostname=0.0.0.0
  --port=8080
)

# start NAME PORT DEVICES
start() {
  local run=(
    docker run --detach --init
    --name "$1"
    --restart unless-stopped
    --stop-timeout 60
    --publish "$BIND:$2:8080"
    --mount 'type=volume,source=llm-llama3-1-8b-tgi-weights,target=/data'
    --ipc host
    --log-driver json-file --log-opt max-size=50m --log-opt max-file=3
    --security-opt no-new-privileges
    --cap-add SYS_NICE
    --runtime habana
  )
  run+=(--env "HABANA_VISIBLE_DEVICES=$3")
  if [ -n "${HF_TOKEN:-}" ]; then
    export HF_TOKEN
    run+=(--env HF_TOKEN)
  fi
  "${run[@]}" "$IMAGE" "${command_line[@]}" >/dev/null
}

# wait_until_ready NAME URL
wait_until_ready() {
  local deadline=$((SECONDS + START_BUDGET_S)) restarts
  until curl -fs -o /dev/null --max-time 5 "$2"; do
    restarts="$(docker inspect --format '{{.RestartCount}}' "$1")"
    if [ "$restarts" -gt 2 ] || [ "$SECONDS" -ge "$deadline" ]; then
      docker logs --tail 40 "$1" >&2
      echo "$1 does not serve after $SECONDS s and $restarts restarts; its last lines are above" >&2
      echo "it is left running; on a slow line START_BUDGET_S waits longer, and this follows it: docker logs --follow $1" >&2
      return 1
    fi
    sleep 5
  done
}

start "$NAME-0" "$((PORT + 0))" '0,1'
echo "waiting up to $START_BUDGET_S s: weights are downloaded on the first start"
wait_until_ready "$NAME-0" "http://$BIND:$((PORT + 0))$HEALTH"

echo "ready; try it: BASE_URL=http://$BIND:$PORT bash bench.sh smoke"
