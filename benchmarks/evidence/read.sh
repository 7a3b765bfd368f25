#!/usr/bin/env bash
# How well a decoder reads slots of tokens: Khmer help pages, held out by document, on a real encoder and decoder; the
# same checkpoint on languages that it never saw; and the direct fine-tune beside it.
#
#   bash benchmarks/evidence/read.sh CORPUS ENCODER DECODER WORKDIR
#
# CORPUS is libreoffice-help.tsv; ENCODER and DECODER are folders or repositories (multilingual-e5-small and
# SmolLM2-135M-Instruct in the evidence). Stage A is short: slots of tokens do not read its vector. PAIRS (default all) and
# ROWS bound the pairs of the dictionary and the rows of Stage B, DIRECT the rows of the direct fine-tune (choose it so
# that both take the same time, as `seconds.tsv` says), WORDS the vocabulary of the dictionary. OTHERS names a folder of
# parallel text in other languages, `en-my/tico19.{en,my}` and so on, and LANGUAGES those languages. What is there already
# is not made again.
set -euo pipefail
corpus=$(realpath "$1") encoder=$2 decoder=$3 work=$4
here=$(cd "$(dirname "$0")" && pwd)
[ -d "$encoder" ] && encoder=$(realpath "$encoder")
[ -d "$decoder" ] && decoder=$(realpath "$decoder")
[ -n "${OTHERS:-}" ] && OTHERS=$(realpath "$OTHERS")
mkdir -p "$work" && cd "$work"
llink=${LLINK:-llink} python=${PYTHON:-python} rows=${ROWS:-8500} direct=${DIRECT:-2500} test=${TEST:-256}
quiet=(--save_strategy no --report_to none --use_cpu --disable_tqdm True --dtype float32)
answers=(--per_device_train_batch_size 8 --gradient_accumulation_steps 4 --num_train_epochs 1 --warmup_steps 0.05
  --logging_steps 5)
[ -e seconds.tsv ] || printf 'step\tseconds\tCPU seconds\n' > seconds.tsv

timed() { # NAME COMMAND…: the command's seconds, by the clock and of all processors, into seconds.tsv
  local name=$1 TIMEFORMAT='%R %U'
  shift
  { time "$@" 2>&3; } 3>&2 2> "$name.time"
  awk -v name="$name" '{ printf "%s\t%s\t%s\n", name, $1, $2 }' "$name.time" >> seconds.tsv
}

[ -d data ] || "$python" "$here/split_documents.py" --corpus "$corpus" --language km \
  --train "${PAIRS:--1}" --held-out "$test" --output-dir data
head -n 128 data/train.en > data/align.en
head -n 128 data/train.km > data/align.km
head -n "$rows" data/train.jsonl > data/rows.jsonl
head -n "$direct" data/train.jsonl > data/direct.jsonl

[ -e align/trainer_state.json ] || timed align $llink align --encoder "$encoder" --decoder "$decoder" --language km \
  --pairs data/align.en data/align.km --teacher_conditioning none --per_device_train_batch_size 64 --num_train_epochs 4 --queue_size 0 \
  --lora_dropout 0 "${quiet[@]}" --output-dir align
[ -e lexicon/trainer_state.json ] || timed lexicon $llink lexicon --model align --language km \
  --pairs data/train.en data/train.km --eval-pairs data/test.en data/test.km --num_train_epochs "${EPOCHS:-6}" \
  --vocabulary_size "${WORDS:-8192}" --feature_cache_dir features --logging_steps 10 "${quiet[@]}" --output-dir lexicon
[ -e inject/trainer_state.json ] || timed inject $llink inject --model lexicon --instructions data/rows.jsonl \
  "${answers[@]}" --feature_cache_dir features "${quiet[@]}" --output-dir inject

evaluate() { # NAME ROWS OPTION…
  local name=$1 file=$2
  shift 2
  [ -e "evaluation/$name/usage.json" ] || $llink eval usage --model inject --instructions "$file" --dtype float32 \
    --output-dir "evaluation/$name"
  $llink eval outputs --model inject --instructions "$file" --dtype float32 --max-new-tokens 64 "$@" \
    --output-dir "evaluation/$name"
  for outputs in "evaluation/$name"/outputs/*.jsonl; do
    $llink eval translation --outputs "$outputs" --output-dir "evaluation/$name/$(basename "$outputs" .jsonl)"
    $llink eval numeric --outputs "$outputs" --output-dir "evaluation/$name/$(basename "$outputs" .jsonl)"
  done
}

evaluate km data/test.jsonl
for language in ${LANGUAGES:-}; do
  [ -d "data-$language" ] || "$python" "$here/translation_rows.py" --pairs "$OTHERS/en-$language/tico19.en" \
    "$OTHERS/en-$language/tico19.$language" --language "$language" --limit "$test" --output "data-$language/test.jsonl"
  evaluate "$language" "data-$language/test.jsonl"
done

[ -e finetune/trainer_state.json ] || timed finetune $llink finetune --model align --instructions data/direct.jsonl \
  "${answers[@]}" "${quiet[@]}" --output-dir finetune
evaluate km data/test.jsonl --baselines finetune
