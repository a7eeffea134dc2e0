#!/usr/bin/env bash
# Ollama 0.33.0 serving llama3:8b-instruct-q6_K on cpu:epyc-9654
# Start:  bash docker-run.sh      Stop:  docker rm --force "$NAME-0"
# Settings from the environment: NAME PORT BIND IMAGE START_BUDGET_S
set -euo pipefail

NAME="${NAME:-llm-meta-llama-3-8b-instruct-ollama}"
BIND="${BIND:-127.0.0.1}"
PORT="${PORT:-11434}"
# The tag follows the release pattern; nobody has confirmed that the registry holds it.
planned_image=docker.io/ollama/ollama:0.33.0
IMAGE="${IMAGE:-$planned_image}"
SERVED=meta-llama-3-8b-instruct
HEALTH=/api/version
START_BUDGET_S="${START_BUDGET_S:-840}"

for tool in docker curl; do
  command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 1; }
done
docker info >/dev/null 2>&1 || { echo "the docker daemon does not answer" >&2; exit 1; }

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
[ -f "$here/Modelfile" ] || { echo "Modelfile is missing beside this script" >&2; exit 1; }

# start NAME PORT DEVICES
start() {
  local run=(
    docker run --detach --init
    --name "$1"
    --restart unless-stopped
    --stop-timeout 60
    --publish "$BIND:$2:11434"
    --mount 'type=volume,source=llm-meta-llama-3-8b-instruct-ollama-weights,target=/root/.ollama'
    --shm-size 64m
    --log-driver json-file --log-opt max-size=50m --log-opt max-file=3
    --security-opt no-new-privileges
    --env OLLAMA_CONTEXT_LENGTH=8192
    --env OLLAMA_FLASH_ATTENTION=1
    --env OLLAMA_HOST=0.0.0.0:11434
    --env OLLAMA_KEEP_ALIVE=-1
    --env OLLAMA_LOAD_TIMEOUT=300s
    --env OLLAMA_MAX_LOADED_MODELS=1
    --env OLLAMA_MAX_QUEUE=512
    --env OLLAMA_NUM_PARALLEL=1
  )
  run+=(--mount "type=bind,\"source=${here//\"/\"\"}/Modelfile\",target=/etc/planner/Modelfile,readonly")
  "${run[@]}" "$IMAGE" >/dev/null
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

start "$NAME-0" "$((PORT + 0))" ''
echo "waiting up to $START_BUDGET_S s: weights are downloaded on the first start"
wait_until_ready "$NAME-0" "http://$BIND:$((PORT + 0))$HEALTH"
docker exec "$NAME-0" ollama create "$SERVED" -f /etc/planner/Modelfile
docker exec "$NAME-0" ollama run "$SERVED" '' >/dev/null

echo "ready; try it: BASE_URL=http://$BIND:$PORT bash bench.sh smoke"
