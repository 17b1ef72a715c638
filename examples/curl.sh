#!/bin/sh
# What curl can ask of a running server: HTTP/2 in clear text, a stream, a deadline, an error, the server's health.
#
#   examples/curl.sh [http://127.0.0.1:8000] [demo]
set -eu
url=${1:-http://127.0.0.1:8000}
model=${2:-demo}

# --http2-prior-knowledge: clear text has no way to negotiate HTTP/2. HTTP/1.1 works without it.
ask() {
    path=$1
    shift
    curl --silent --show-error --http2-prior-knowledge "$url$path" "$@"
    echo
}

post() {
    path=$1
    body=$2
    shift 2
    ask "$path" --header 'content-type: application/json' --data "$body" "$@"
}

echo '== which models are there'
ask /v1/models

echo '== a chat, as it is made (--no-buffer)'
post /v1/chat/completions '{"model": "'"$model"'", "stream": true, "stream_options": {"include_usage": true},
    "max_tokens": 60, "temperature": 0, "messages": [{"role": "user", "content": "What is a canary rollout?"}]}' --no-buffer

echo '== a completion at once, cut before a stop string, with a name of ours for it and two seconds to answer'
post /v1/completions '{"model": "'"$model"'", "prompt": "A canary", "max_tokens": 20, "seed": 7, "stop": ["."]}' \
    --header 'x-request-id: example-1' --header 'x-request-timeout-ms: 2000' --include

echo '== a field that is not served is refused by name'
post /v1/completions '{"model": "'"$model"'", "prompt": "A", "best_of": 4}'

echo '== ready?'
ask /health/ready
