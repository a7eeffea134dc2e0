#!/usr/bin/env bash
# NVIDIA NIM for LLMs 2.1.5 serving neuralmagic/Meta-Llama-3-8B-Instruct-FP8 on 1xH100-SXM
# Start:  bash nim.sh      Stop:  docker rm --force "$NAME"
# Settings from the environment: NAME PORT BIND IMAGE CACHE DEVICES NGC_API_KEY
# NVIDIA AI Enterprise licenses production use. Pulling: docker login nvcr.io (user $oauthtoken, password NGC_API_KEY).
# The image's name and tag follow NVIDIA's pattern; nobody has confirmed that the registry holds it.
set -euo pipefail

NAME="${NAME:-llm-meta-llama-3-8b-instruct}"
BIND="${BIND:-127.0.0.1}"
PORT="${PORT:-8000}"
planned_image=nvcr.io/nim/nvidia/vllm-model-free-nim:2.1.5
IMAGE="${IMAGE:-$planned_image}"
CACHE="${CACHE:-$HOME/.cache/nim}"
DEVICES="${DEVICES:-0}"
HEALTH=/v1/health/ready
START_BUDGET_S=420

for tool in docker curl; do
  command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 1; }
done
docker info >/dev/null 2>&1 || { echo "the docker daemon does not answer" >&2; exit 1; }

# The container runs as this user, so the cache is his.
mkdir -p "$CACHE"

run=(
  docker run --detach --init
  --name "$NAME"
  --restart unless-stopped
  --stop-timeout 90
  --gpus "\"device=$DEVICES\""
  --shm-size 2048m
  --user "$(id -u):0"
  --publish "$BIND:$PORT:8000"
  --log-driver json-file --log-opt max-size=50m --log-opt max-file=3
  --security-opt no-new-privileges
  --mount "type=bind,\"source=${CACHE//\"/\"\"}\",target=/opt/nim/.cache"
  --env NIM_MAX_MODEL_LEN=8192
  --env NIM_MODEL_PATH=hf://neuralmagic/Meta-Llama-3-8B-Instruct-FP8
  --env NIM_PASSTHROUGH_ARGS='--kv-cache-dtype=fp8 --max-num-seqs=32 --max-num-batched-tokens=8192 --gpu-memory-utilization=0.92'
  --env NIM_SERVED_MODEL_NAME=meta-llama-3-8b-instruct
  --env NIM_TENSOR_PARALLEL_SIZE=1
)
# Keys go from the environment to the container; they are written nowhere.
keys=(NGC_API_KEY)
for key in "${keys[@]}"; do
  if [ -n "${!key:-}" ]; then
    export "${key?}"
    run+=(--env "$key")
  fi
done
"${run[@]}" "$IMAGE" >/dev/null

echo "waiting up to $START_BUDGET_S s: weights are downloaded on the first start"
deadline=$((SECONDS + START_BUDGET_S))
until curl -fs -o /dev/null --max-time 5 "http://$BIND:$PORT$HEALTH"; do
  restarts="$(docker inspect --format '{{.RestartCount}}' "$NAME")"
  if [ "$restarts" -gt 2 ] || [ "$SECONDS" -ge "$deadline" ]; then
    docker logs --tail 40 "$NAME" >&2
    echo "$NAME does not serve after $SECONDS s and $restarts restarts; its last lines are above" >&2
    exit 1
  fi
  sleep 5
done
echo "ready; try it: BASE_URL=http://$BIND:$PORT bash bench.sh smoke"
