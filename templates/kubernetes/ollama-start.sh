#!/bin/sh
# Starts the server, creates and loads the planned model, then stays with the server.
set -eu
rm -f /tmp/model-ready
/bin/ollama serve &
server=$!
trap 'kill -TERM "$server"' TERM INT
until /bin/ollama list >/dev/null 2>&1; do
  kill -0 "$server"
  sleep 1
done
/bin/ollama create "$MODEL" -f /etc/planner/Modelfile
/bin/ollama run "$MODEL" '' >/dev/null
touch /tmp/model-ready
wait "$server"
