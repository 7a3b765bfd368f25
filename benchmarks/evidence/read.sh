#!/usr/bin/env bash
# How well a decoder reads slots of tokens: Khmer help pages, held out by document, on a real encoder and decoder.
#
#   bash benchmarks/evidence/read.sh CORPUS ENCODER DECODER WORKDIR
#
# CORPUS is libreoffice-help.tsv; ENCODER and DECODER are folders or repositories (multilingual-e5-small and
# SmolLM2-135M-Instruct in the evidence). Stage A is short: slots of tokens do not read its vector. PAIRS (default all) and
# ROWS bound the pairs of the dictionary and the rows of Stage B; WORDS the vocabulary of the dictionary. What is there
# already is not made again.
set -euo pipefail
corpus=$(realpath "$1") encoder=$2 decoder=$3 work=$4
here=$(cd "$(dirname "$0")" && pwd)
[ -d "$encoder" ] && encoder=$(realpath "$encoder")
[ -d "$decoder" ] && decoder=$(realpath "$decoder")
mkdir -p "$work" && cd "$work"
llink=${LLINK:-llink} python=${PYTHON:-python} rows=${ROWS:-8500}
quiet=(--save_strategy no --report_to none --use_cpu --disable_tqdm True --dtype float32)

[ -d data ] || "$python" "$here/split_documents.py" --corpus "$corpus" --language km \
  --train "${PAIRS:--1}" --held-out "${TEST:-256}" --output-dir data
head -n 128 data/train.en > data/align.en
head -n 128 data/train.km > data/align.km
head -n "$rows" data/train.jsonl > data/rows.jsonl

[ -e align/trainer_state.json ] || $llink align --encoder "$encoder" --decoder "$decoder" --language km \
  --pairs data/align.en data/align.km --teacher_conditioning none --per_device_train_batch_size 64 --num_train_epochs 4 --queue_size 0 \
  --lora_dropout 0 "${quiet[@]}" --output-dir align
[ -e lexicon/trainer_state.json ] || $llink lexicon --model align --language km --pairs data/train.en data/train.km \
  --eval-pairs data/test.en data/test.km --num_train_epochs "${EPOCHS:-6}" --vocabulary_size "${WORDS:-8192}" \
  --feature_cache_dir features --logging_steps 10 "${quiet[@]}" --output-dir lexicon
[ -e inject/trainer_state.json ] || $llink inject --model lexicon --instructions data/rows.jsonl \
  --eval-instructions data/test.jsonl --per_device_train_batch_size 16 --gradient_accumulation_steps 2 \
  --per_device_eval_batch_size 16 --num_train_epochs 1 --warmup_steps 0.05 --feature_cache_dir features \
  --logging_steps 5 "${quiet[@]}" --output-dir inject
$llink eval usage --model inject --instructions data/test.jsonl --dtype float32 --output-dir evaluation
$llink eval outputs --model inject --instructions data/test.jsonl --dtype float32 --max-new-tokens 64 \
  --output-dir evaluation
$llink eval translation --outputs evaluation/outputs/llink.jsonl --output-dir evaluation
$llink eval numeric --outputs evaluation/outputs/llink.jsonl --output-dir evaluation
