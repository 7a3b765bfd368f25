#!/usr/bin/env bash
# How does Stage A grow with the number of pairs, by the paper's and by the recommended preset?
#
#   bash benchmarks/evidence/data_size.sh WORKDIR
#
# WORKDIR is what `examples/en_ja.sh` has made. 15 epochs of 512 pairs each; retrieval over the test pairs. What is there
# already is not made again.
set -euo pipefail
cd "$1"
export HF_HUB_OFFLINE=1
for pairs in 1280 2560 5120 10240 20480; do
  head -"$pairs" data/train.en > "data/train-$pairs.en"
  head -"$pairs" data/train.ja > "data/train-$pairs.ja"
  for preset in recommended paper; do
    model=size/$preset-$pairs out=size/evaluation/$preset-$pairs
    [ -e "$model/trainer_state.json" ] || llink align --preset "$preset" --encoder encoder --decoder decoder \
      --dtype bfloat16 --encoder_layer 1 --pairs "data/train-$pairs.en" "data/train-$pairs.ja" --language ja \
      --per_device_train_batch_size 512 --num_train_epochs 15 --queue_size 1024 --feature_cache_dir features \
      --feature_batch_size 64 --save_strategy no --report_to none --use_cpu --disable_tqdm True --output-dir "$model"
    [ -e "$out/retrieval.json" ] || llink eval retrieval --model "$model" --dtype bfloat16 --rows stage_a \
      --pairs data/test.en data/test.ja --output-dir "$out"
  done
done
