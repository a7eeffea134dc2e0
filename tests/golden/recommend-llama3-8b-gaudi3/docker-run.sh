#!/usr/bin/env bash
# Text Generation Inference 3.3.7 serving neuralmagic/Meta-Llama-3-8B-Instruct-FP8 on 8xGaudi3
# Start:  bash docker-run.sh      Stop:  docker rm --force "$NAME-0"
# Settings from the environment: NAME PORT BIND IMAGE START_BUDGET_S
set -euo pipefail

NAME="${NAME:-llm-meta-llama-3-8b-instruct-tgi}"
BIND="${BIND:-127.0.0.1}"
PORT="${PORT:-8080}"
# The tag follows the release pattern; nobody has confirmed that the registry holds it.
planned_image=ghcr.io/huggingface/text-generation-inference:3.3.7-gaudi
IMAGE="${IMAGE:-$planned_image}"
HEALTH=/health
START_BUDGET_S="${START_BUDGET_S:-780}"

for tool in docker curl; do
  command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 1; }
done
docker info >/dev/null 2>&1 || { echo "the docker daemon does not answer" >&2; exit 1; }

command_line=(
  --model-id=neuralmagic/Meta-Llama-3-8B-Instruct-FP8
  --num-shard=2
  --max-input-tokens=7936
  --max-total-tokens=8192
  --max-batch-prefill-tokens=7936
  --max-concurrent-requests=128
  --max-batch-size=8
  --cuda-memory-fraction=1
  --hostname=0.0.0.0
  --port=8080
)

# start NAME PORT DEVICES
start() {
  local run=(
    docker run --detach --init
    --name "$1"
    --restart unless-stopped
    --stop-timeout 120
    --publish "$BIND:$2:8080"
    --mount 'type=volume,source=llm-meta-llama-3-8b-instruct-tgi-weights,target=/data'
    --mount 'type=volume,source=llm-meta-llama-3-8b-instruct-tgi-compile-cache,target=/recipe_cache'
    --ipc host
    --log-driver json-file --log-opt max-size=50m --log-opt max-file=3
    --security-opt no-new-privileges
    --cap-add SYS_NICE
    --runtime habana
    --env HF_HOME=/data
    --env PT_HPU_ENABLE_LAZY_COLLECTIVES=true
    --env PT_HPU_RECIPE_CACHE_CONFIG='/recipe_cache,false,16384'
  )
  run+=(--env "HABANA_VISIBLE_DEVICES=$3")
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
start "$NAME-1" "$((PORT + 1))" '2,3'
start "$NAME-2" "$((PORT + 2))" '4,5'
start "$NAME-3" "$((PORT + 3))" '6,7'
echo "waiting up to $START_BUDGET_S s: weights are downloaded on the first start"
wait_until_ready "$NAME-0" "http://$BIND:$((PORT + 0))$HEALTH"
wait_until_ready "$NAME-1" "http://$BIND:$((PORT + 1))$HEALTH"
wait_until_ready "$NAME-2" "http://$BIND:$((PORT + 2))$HEALTH"
wait_until_ready "$NAME-3" "http://$BIND:$((PORT + 3))$HEALTH"

echo "ready; try it: BASE_URL=http://$BIND:$PORT bash bench.sh smoke"
