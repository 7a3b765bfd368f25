#!/usr/bin/env bash
# Three seeds of a short Stage B, on what read.sh left in WORKDIR (its dictionary, data and features): llink as it is, the
# direct fine-tune in about the same processor time, and llink with the contrast by content (another row's slots must
# make the answer less likely).
#
#   bash benchmarks/evidence/read_seeds.sh WORKDIR
#
# ROWS are llink's, DIRECT the fine-tune's, SEEDS which seeds. Seconds stand in seeds/seconds.tsv. What is there already is
# not made again.
set -euo pipefail
work=$1
cd "$work" && mkdir -p seeds
llink=${LLINK:-llink} rows=${ROWS:-320} direct=${DIRECT:-130}
quiet=(--save_strategy no --report_to none --use_cpu --disable_tqdm True --dtype float32)
answers=(--per_device_train_batch_size 8 --gradient_accumulation_steps 2 --num_train_epochs 1 --warmup_steps 0.05
  --logging_steps 5)
head -n "$rows" data/train.jsonl > seeds/rows.jsonl
head -n "$direct" data/train.jsonl > seeds/direct.jsonl
[ -e seeds/seconds.tsv ] || printf 'run\tseconds\tCPU seconds\n' > seeds/seconds.tsv
[ -e seeds/features ] || cp -r features seeds/features # read.sh may be writing to its own

timed() { # NAME COMMAND…: seconds by the clock and of the processor into seeds/seconds.tsv
  local name=$1 TIMEFORMAT='%R %U'
  shift
  { time "$@" 2>&3; } 3>&2 2> "seeds/$name.time"
  awk -v name="$name" '{ printf "%s\t%s\t%s\n", name, $1, $2 }' "seeds/$name.time" >> seeds/seconds.tsv
}

evaluate() { # FOLDER MODEL OPTION…: the gaps, the answers, their chrF++ and numbers
  local folder=$1 model=$2 outputs
  shift 2
  [ -e "$folder/usage.json" ] || $llink eval usage --model "$model" --instructions data/test.jsonl --dtype float32 \
    --output-dir "$folder"
  $llink eval outputs --model "$model" --instructions data/test.jsonl --dtype float32 --max-new-tokens 64 "$@" \
    --output-dir "$folder"
  for outputs in "$folder"/outputs/*.jsonl; do
    $llink eval translation --outputs "$outputs" --output-dir "$folder/$(basename "$outputs" .jsonl)"
    $llink eval numeric --outputs "$outputs" --output-dir "$folder/$(basename "$outputs" .jsonl)"
  done
}

inject() { # NAME OPTION…
  local name=$1
  shift
  [ -e "seeds/$name/model/trainer_state.json" ] || timed "$name" $llink inject --model lexicon \
    --instructions seeds/rows.jsonl "${answers[@]}" --feature_cache_dir seeds/features "${quiet[@]}" "$@" \
    --output-dir "seeds/$name/model"
}

for seed in ${SEEDS:-0 1 2}; do
  inject "plain-$seed" --seed "$seed"
  inject "shuffled-$seed" --seed "$seed" --usage_weight 0.1 --usage_variant shuffled
done
for seed in ${SEEDS:-0 1 2}; do
  evaluate "seeds/plain-$seed" "seeds/plain-$seed/model" --systems llink
  evaluate "seeds/shuffled-$seed" "seeds/shuffled-$seed/model" --systems llink
done
for seed in ${SEEDS:-0 1 2}; do # rows of raw text are long: half as many at once
  [ -e "seeds/finetune-$seed/trainer_state.json" ] || timed "finetune-$seed" $llink finetune --model align \
    --instructions seeds/direct.jsonl "${answers[@]}" --per_device_train_batch_size 4 --gradient_accumulation_steps 4 \
    --seed "$seed" "${quiet[@]}" --output-dir "seeds/finetune-$seed"
  evaluate "seeds/plain-$seed" "seeds/plain-$seed/model" --systems llink finetune \
    --baselines "seeds/finetune-$seed"
done
