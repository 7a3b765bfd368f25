#!/usr/bin/env bash
# Stage B examples by a model on this machine: `transformers serve` serves it, `llink synthesize` asks it.
#
#   pip install 'llink[judge]'
#   bash examples/synthesize_with_transformers_serve.sh MODEL OUT --pairs train.en train.km --language km [options]
#
# Writes OUT/train.jsonl and OUT/held_out.jsonl; every answer stays in OUT/answers.jsonl, so that the same command goes on
# where a run stopped. The server's log is OUT.log. PORT, DTYPE: of the server.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/transformers_serve.sh"
model=$1 out=${2%/}
shift 2

mkdir -p "$(dirname "$out")"
serve "$model" "$out.log"
# The server runs one generation at a time. huggingface_hub calls no server, a local one neither, when it is offline.
HF_HUB_OFFLINE=0 llink synthesize --model "$model" --url "$url/v1" --concurrency 1 --output-dir "$out" "$@"
