#!/usr/bin/env bash
# Three languages with little text: English–Khmer, –Burmese, –Amharic, on one encoder pre-trained on all their text.
#
#   bash benchmarks/evidence/low_resource.sh CORPORA DECODER WORKDIR
#
# CORPORA holds en-km, en-my and en-am; DECODER is what `examples/convert_gguf.py` made. Stage A together and apart, with
# the recommended and with the paper's preset; then Stage B (with 8 slots of one vector, and with 16 of words), the direct
# fine-tune and the LangBridge-style bridge on the same rows and for the same STEPS (default 80), and everything's
# evaluation. What is there already is not made again. DTYPE is of the bases: float32 is the faster one on a processor
# without bfloat16 arithmetic.
set -euo pipefail
corpora=$(realpath "$1") decoder=$(realpath "$2") work=$3
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work" && cd "$work"
export HF_HUB_OFFLINE=1 DTYPE=${DTYPE:-bfloat16}

[ -d data ] || python "$here/split_languages.py" --output-dir data \
  --pairs "$corpora"/en-km/tico19.{en,km} km --pairs "$corpora"/en-km/wmt20-newstest.{en,km} km \
  --pairs "$corpora"/en-km/wmt20-wikipedia.{en,km} km \
  --pairs "$corpora"/en-my/tico19.{en,my} my --pairs "$corpora"/en-am/tico19.{en,am} am
half=$([ "$DTYPE" = bfloat16 ] && echo True || echo False)
[ -d encoder ] || python "$here/../../examples/pretrain_encoder.py" --text data/monolingual.txt --vocab-size 8000 \
  --max-piece-length 6 --num-train-epochs 6 --contrastive-epochs 2 --bf16 "$half" --use-cpu True --disable-tqdm True \
  --resume-from-checkpoint last --output-dir encoder

align() { # NAME PRESET TRAIN LANGUAGE [OPTION…]
  [ -e "$1/trainer_state.json" ] && return
  llink align --preset "$2" --encoder encoder --decoder "$decoder" --dtype "$DTYPE" --encoder_layer 1 \
    --pairs "data/$3/train.en" "data/$3/train.$3" --eval-pairs "data/$4/dev.en" "data/$4/dev.$4" --language "$4" \
    --per_device_train_batch_size 256 --num_train_epochs 60 --queue_size 1024 --feature_cache_dir features \
    --feature_batch_size 64 --save_strategy no --report_to none --use_cpu --disable_tqdm True --output-dir "$1" "${@:5}"
}
for preset in recommended paper; do
  align "all-$preset" "$preset" all km
  for language in km my am; do
    align "$language-$preset" "$preset" "$language" "$language"
    for model in "$language-$preset" "all-$preset"; do
      out=evaluation/$language/$model
      [ -e "$out/retrieval.json" ] || llink eval retrieval --model "$model" --dtype "$DTYPE" --rows encoder stage_a \
        --pairs "data/$language/test.en" "data/$language/test.$language" --output-dir "$out"
    done
  done
done

align all-words recommended all km --lora_dropout 0
[ -e lexicon/trainer_state.json ] || llink lexicon --model all-words --dtype "$DTYPE" --language km \
  --pairs data/all/train.en data/all/train.all --eval-pairs data/km/dev.en data/km/dev.km --eval_strategy epoch \
  --num_train_epochs 8 --save_strategy no --report_to none --use_cpu \
  --disable_tqdm True --output-dir lexicon

[ -d decoder ] || ln -s "$decoder" decoder
# 12 rows a step, in four parts: at once they take 16 GB.
stage_b=(--model all-recommended --dtype "$DTYPE" --instructions data/all/train.jsonl --max_steps "${STEPS:-80}"
  --per_device_train_batch_size 3 --gradient_accumulation_steps 4 --learning_rate 5e-4 --save_strategy steps
  --save_steps 20 --save_total_limit 1 --logging_steps 10 --report_to none --use_cpu --disable_tqdm True)
source "$here/../../examples/stage_b.sh"
train inject inject --slot_learning_rate 1e-3 --feature_cache_dir features
train inject inject-words --model lexicon --slot_learning_rate 1e-3 --feature_cache_dir features
train langbridge langbridge
# 256 characters of Burmese are up to 741 tokens of this decoder.
train finetune finetune --max_length 1024
for language in km my am; do
  test=data/$language/test out=evaluation/$language/words
  bash "$here/../../examples/evaluate.sh" inject "$test" "$language" "evaluation/$language/inject" finetune langbridge
  bash "$here/../../examples/evaluate.sh" inject-words "$test" "$language" "$out"
  words=$out/llink-lexicon # the name by which tables tell it from the others
  mkdir -p "$words" && cp "$out/outputs/llink.jsonl" "$words.jsonl"
  for kind in translation numeric; do
    [ -e "$words/$kind.json" ] || llink eval "$kind" --outputs "$words.jsonl" --output-dir "$words"
  done
done
