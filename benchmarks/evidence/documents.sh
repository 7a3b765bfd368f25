#!/usr/bin/env bash
# Does a decoder find what stands late in a long text? Questions by rule about whole pages of Khmer help, half of which are
# held out, by the third of the page in which the answer stands: llink, llink on the page's first 256 characters, and the
# base decoder on the raw Khmer.
#
#   bash benchmarks/evidence/documents.sh CORPUS ENCODER DECODER WORKDIR
#
# PAIRS are those of the dictionary, ROWS the translations and QUESTIONS the questions of Stage B, MOST the questions about a
# third of a page, RAW how many of the questions are put to the base decoder. What is there already is not made again.
set -euo pipefail
corpus=$(realpath "$1") encoder=$2 decoder=$3 work=$4
here=$(cd "$(dirname "$0")" && pwd)
[ -d "$encoder" ] && encoder=$(realpath "$encoder")
[ -d "$decoder" ] && decoder=$(realpath "$decoder")
mkdir -p "$work" && cd "$work"
llink=${LLINK:-llink} python=${PYTHON:-python}
quiet=(--save_strategy no --report_to none --use_cpu --disable_tqdm True --dtype float32)

[ -d data ] || "$python" "$here/split_documents.py" --corpus "$corpus" --language km --documents 0.5 \
  --train "${PAIRS:-3000}" --held-out 64 --output-dir data
[ -d questions ] || "$python" "$here/document_rows.py" --corpus "$corpus" --documents 0.5 --most "${MOST:-2}" \
  --output-dir questions
head -n 128 data/train.en > data/align.en
head -n 128 data/train.km > data/align.km
{
  head -n "${ROWS:-160}" data/train.jsonl
  head -n "${QUESTIONS:-120}" questions/train.jsonl
} > data/rows.jsonl

[ -e align/trainer_state.json ] || $llink align --encoder "$encoder" --decoder "$decoder" --language km \
  --pairs data/align.en data/align.km --teacher_conditioning none --per_device_train_batch_size 64 --num_train_epochs 4 \
  --queue_size 0 --lora_dropout 0 "${quiet[@]}" --output-dir align
[ -e lexicon/trainer_state.json ] || $llink lexicon --model align --language km --pairs data/train.en data/train.km \
  --eval-pairs data/test.en data/test.km --num_train_epochs "${EPOCHS:-4}" --vocabulary_size 8192 \
  --feature_cache_dir features --logging_steps 10 "${quiet[@]}" --output-dir lexicon
[ -e inject/trainer_state.json ] || $llink inject --model lexicon --instructions data/rows.jsonl --max_length 4096 \
  --per_device_train_batch_size 2 --gradient_accumulation_steps 8 --num_train_epochs 1 --warmup_steps 0.05 \
  --logging_steps 1 --feature_cache_dir features "${quiet[@]}" --output-dir inject
"$python" "$here/documents.py" --model inject --questions questions/test.jsonl --raw "${RAW:-30}" --output-dir evaluation
