#!/usr/bin/env bash
# vLLM 0.33.0 serving casperhansen/llama-3-8b-instruct-awq on 1xT4
# Start:  bash docker-run.sh      Stop:  docker rm --force "$NAME-0"
# Settings from the environment: NAME PORT BIND IMAGE START_BUDGET_S
set -euo pipefail

NAME="${NAME:-llm-meta-llama-3-8b-instruct-vllm}"
BIND="${BIND:-127.0.0.1}"
PORT="${PORT:-8000}"
# The tag follows the release pattern; nobody has confirmed that the registry holds it.
# Image: CUDA 13 build, so driver 580 or newer; -cu129 variants of the tag exist for older drivers. The image starts as root and also knows user 2000 with paths under /home/vllm.
planned_image=docker.io/vllm/vllm-openai:v0.33.0
IMAGE="${IMAGE:-$planned_image}"
HEALTH=/health
START_BUDGET_S="${START_BUDGET_S:-300}"

for tool in docker curl; do
  command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 1; }
done
docker info >/dev/null 2>&1 || { echo "the docker daemon does not answer" >&2; exit 1; }

command_line=(
  casperhansen/llama-3-8b-instruct-awq
  --served-model-name=meta-llama-3-8b-instruct
  --dtype=float16
  --tensor-parallel-size=1
  --max-model-len=8192
  --max-num-seqs=32
  --max-num-batched-tokens=2048
  --gpu-memory-utilization=0.92
  --shutdown-timeout=30
  --host=0.0.0.0
  --port=8000
)

# start NAME PORT DEVICES
start() {
  local run=(
    docker run --detach --init
    --name "$1"
    --restart unless-stopped
    --stop-timeout 60
    --publish "$BIND:$2:8000"
    --mount 'type=volume,source=llm-meta-llama-3-8b-instruct-vllm-weights,target=/home/vllm/.cache/huggingface'
    --mount 'type=volume,source=llm-meta-llama-3-8b-instruct-vllm-compile-cache,target=/home/vllm/.cache/vllm'
    --shm-size 2048m
    --log-driver json-file --log-opt max-size=50m --log-opt max-file=3
    --security-opt no-new-privileges
    --user 2000:0
    --env HOME=/home/vllm
  )
  run+=(--gpus "\"device=$3\"")
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

# The container does not run as root: give it its volumes once.
docker run --rm --user 0:0 --network none --entrypoint chown \
  --mount 'type=volume,source=llm-meta-llama-3-8b-instruct-vllm-weights,target=/home/vllm/.cache/huggingface' \
  --mount 'type=volume,source=llm-meta-llama-3-8b-instruct-vllm-compile-cache,target=/home/vllm/.cache/vllm' \
  "$IMAGE" -R 2000:0 /home/vllm/.cache/huggingface /home/vllm/.cache/vllm

start "$NAME-0" "$((PORT + 0))" 0
echo "waiting up to $START_BUDGET_S s: weights are downloaded on the first start"
wait_until_ready "$NAME-0" "http://$BIND:$((PORT + 0))$HEALTH"

echo "ready; try it: BASE_URL=http://$BIND:$PORT bash bench.sh smoke"
