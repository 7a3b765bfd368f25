#!/usr/bin/env bash
# A judge on this machine: `transformers serve` serves a chat model, and it compares the answers of two systems or more.
#
#   pip install 'llink[judge]'
#   bash examples/judge_with_transformers_serve.sh MODEL RUN first.jsonl second.jsonl [third.jsonl…] [options]
#
# The first file's system is compared with the others'. Writes RUN/judge.json and RUN/judge.png; every judgement stays in
# RUN/judge/judgements.jsonl, so that the same command goes on where a run stopped. PORT, DTYPE: of the server.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/transformers_serve.sh"
model=$1 run=$2
shift 2

mkdir -p "$run"
serve "$model" "$run/server.log"
# The server runs one generation at a time. huggingface_hub calls no server, a local one neither, when it is offline.
HF_HUB_OFFLINE=0 llink eval judge --judge-url "$url/v1" --judge-model "$model" --concurrency 1 --output-dir "$run" \
  --outputs "$@"
