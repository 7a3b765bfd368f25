#!/usr/bin/env bash
# Every evaluation of one model beside its baselines; what is there already is not made again.
#
#   bash examples/evaluate.sh MODEL TEST LANGUAGE OUTPUT_DIR [BASELINE…]
#
# TEST stands for the files TEST.en, TEST.LANGUAGE and TEST.jsonl, whose first ROWS rows are answered (default 64; greedy,
# at most TOKENS new tokens, default 64). JUDGE is the folder of a chat model that compares the answers; none by default.
# DTYPE is of the bases (default auto). OUTPUT_DIR gets the records, their plots, and a page of it all in OUTPUT_DIR/report.
set -euo pipefail
model=$1 test=$2 language=$3 out=$4
shift 4
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
pairs=(--pairs "$test.en" "$test.$language") own=(--model "$model" --dtype "${DTYPE:-auto}" --output-dir "$out")
baselines=(${1:+--baselines "$@"})

mkdir -p "$out"
missing() { [ ! -e "$out/$1.json" ]; }
if missing retrieval; then
  llink eval retrieval "${own[@]}" "${pairs[@]}" --batch_size 64 "${baselines[@]}"
fi
if missing usage; then
  llink eval usage "${own[@]}" --instructions "$test.jsonl" --limit 256
fi
if missing tokens; then
  llink eval tokens "${own[@]}" --texts "English=$test.en" "$language=$test.$language"
fi
if missing representations; then
  llink eval representations "${own[@]}" "${pairs[@]}" --limit "${ROWS:-64}"
fi
if missing outputs; then
  llink eval outputs "${own[@]}" --instructions "$test.jsonl" --limit "${ROWS:-64}" --max-new-tokens "${TOKENS:-64}" \
    "${baselines[@]}"
fi
outputs=("$out/outputs/llink.jsonl")
for file in "$out"/outputs/*.jsonl; do
  [ "$file" = "${outputs[0]}" ] || outputs+=("$file")
done
missing translation && llink eval translation --outputs "${outputs[@]}" --output-dir "$out"
missing numeric && llink eval numeric --outputs "${outputs[@]}" --output-dir "$out"
if [ -n "${JUDGE:-}" ] && missing judge; then
  bash "$here/judge_with_transformers_serve.sh" "$JUDGE" "$out" "${outputs[@]}" \
    --judge-prompt "$here/judge_prompt_short.jinja" --max-tokens 16
fi
llink report "$out"
