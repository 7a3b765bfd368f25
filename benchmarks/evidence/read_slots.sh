#!/usr/bin/env bash
# How many of the encoder's tokens may share a slot? Dictionaries and a short Stage B for each, on what read.sh left in
# WORKDIR (its data and features) and beside the first seed of read_seeds.sh, where each token has its own.
#
#   bash benchmarks/evidence/read_slots.sh WORKDIR
#
# SHARES are tokens a slot, `fixed` eight slots whatever the length. What is there already is not made again.
set -euo pipefail
work=$1
cd "$work" && mkdir -p shares
llink=${LLINK:-llink} rows=${ROWS:-320}
quiet=(--save_strategy no --report_to none --use_cpu --disable_tqdm True --dtype float32 --feature_cache_dir shares/features)
head -n "$rows" data/train.jsonl > shares/rows.jsonl
[ -e shares/features ] || cp -r features shares/features # another run may be writing to its own

evaluate() { # FOLDER MODEL: the gaps, the answers, their chrF++ and numbers, the prompts' tokens
  local folder=$1 model=$2 outputs
  [ -e "$folder/usage.json" ] || $llink eval usage --model "$model" --instructions data/test.jsonl --dtype float32 \
    --output-dir "$folder"
  $llink eval outputs --model "$model" --instructions data/test.jsonl --dtype float32 --max-new-tokens 64 \
    --systems llink --output-dir "$folder"
  for outputs in "$folder"/outputs/*.jsonl; do
    $llink eval translation --outputs "$outputs" --output-dir "$folder/$(basename "$outputs" .jsonl)"
    $llink eval numeric --outputs "$outputs" --output-dir "$folder/$(basename "$outputs" .jsonl)"
  done
  $llink eval tokens --model "$model" --texts en=data/test.en km=data/test.km --output-dir "$folder"
}

for share in ${SHARES:-2 4 8 16 fixed}; do
  slots=(--tokens_per_slot "$share")
  [ "$share" = fixed ] && slots=(--min_slots 8 --max_slots 8)
  folder=shares/$share
  [ -e "$folder/lexicon/trainer_state.json" ] || $llink lexicon --model align --language km "${slots[@]}" \
    --pairs data/train.en data/train.km --eval-pairs data/test.en data/test.km --num_train_epochs "${EPOCHS:-4}" \
    --vocabulary_size "${WORDS:-8192}" --logging_steps 10 "${quiet[@]}" --output-dir "$folder/lexicon"
  [ -e "$folder/inject/trainer_state.json" ] || $llink inject --model "$folder/lexicon" --instructions shares/rows.jsonl \
    --per_device_train_batch_size 8 --gradient_accumulation_steps 2 --num_train_epochs 1 --warmup_steps 0.05 \
    --logging_steps 5 "${quiet[@]}" --output-dir "$folder/inject"
  evaluate "$folder" "$folder/inject"
done
