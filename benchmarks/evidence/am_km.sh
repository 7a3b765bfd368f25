#!/usr/bin/env bash
# A decoder that answers in Khmer what it reads in Amharic: no side is English. TICO-19 is aligned over its languages.
#
#   bash benchmarks/evidence/am_km.sh CORPORA ENCODER DECODER WORKDIR
#
# CORPORA holds en-am and en-km; STEPS (default 80) are Stage B's. What is there already is not made again.
set -euo pipefail
corpora=$(realpath "$1") encoder=$2 decoder=$3 work=$4
cmp "$corpora"/en-am/tico19.en "$corpora"/en-km/tico19.en # line n of the one is line n of the other
mkdir -p "$work" && cd "$work"

llink prepare --input "$corpora"/en-km/tico19.km "$corpora"/en-am/tico19.am --language am --target-language km \
  --splits train=-1 held_out=200 --shares 0.88 0.12 --output-dir data
llink synthesize --pairs data train --rule-made --splits train=-1 dev=80 --output-dir rows
llink synthesize --pairs data held_out --rule-made --splits test=-1 --output-dir rows-test

[ "${ONLY_DATA:-}" ] && exit
quick=(--save_strategy no --report_to none --disable_tqdm True)
pairs=(--pairs data train --eval-pairs data held_out --language am)
[ -e a/trainer_state.json ] || llink align --encoder "$encoder" --decoder "$decoder" "${pairs[@]}" "${quick[@]}" \
  --output-dir a
[ -e words/trainer_state.json ] || llink lexicon --model a "${pairs[@]}" "${quick[@]}" --output-dir words
[ -e b/trainer_state.json ] || llink inject --model words --instructions rows/train.jsonl \
  --eval-instructions rows/dev.jsonl --max_steps "${STEPS:-80}" "${quick[@]}" --output-dir b
llink eval retrieval --model b --pairs data held_out --output-dir evaluation
llink eval outputs --model b --instructions rows-test/test.jsonl --output-dir evaluation
llink eval translation --outputs evaluation/outputs/{base,llink}.jsonl --target-language km --output-dir evaluation
llink eval numeric --outputs evaluation/outputs/{base,llink}.jsonl --target-language km --output-dir evaluation
