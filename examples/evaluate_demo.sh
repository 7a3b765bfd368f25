#!/usr/bin/env bash
# Every evaluation on the demo's checkpoint, against its baselines, then one page of it all.
#
#   make demo && bash examples/evaluate_demo.sh runs/demo
#
# Needs no network and no GPU. ROWS is the number of rows that are answered (default 64).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
run=$1 rows=${ROWS:-64}
model=$run/model data=$run/evaluation/data out=$run/evaluation
export HF_HUB_OFFLINE=1
mkdir -p "$data"

python - "$data" "$rows" <<'PYTHON'
import json, sys
from pathlib import Path
from llink.data.demo_corpus import demo_splits, generate_instructions

folder, rows = Path(sys.argv[1]), int(sys.argv[2])
splits = demo_splits()
for name, pairs in (("train", splits["train"][:4000]), ("test", splits["test"])):
    (folder / f"{name}.en").write_text("".join(f"{pair.english}\n" for pair in pairs), "utf-8")
    (folder / f"{name}.km").write_text("".join(f"{pair.foreign}\n" for pair in pairs), "utf-8")
    instructions = generate_instructions(pairs)[: rows if name == "test" else None]
    lines = [json.dumps(row, ensure_ascii=False) for row in instructions]
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
PYTHON

# Baselines on the same bases and prompts, and rows of the same kind; a short training, not the demo's own budget.
quick=(--model "$model" --instructions "$data/train.jsonl" --max_steps "${STEPS:-120}" --per_device_train_batch_size 16
  --gradient_accumulation_steps 1 --learning_rate 1e-3 --save_strategy no --report_to none --use_cpu)
llink finetune "${quick[@]}" --output-dir "$out/finetune"
llink langbridge "${quick[@]}" --output-dir "$out/langbridge"

llink eval usage --model "$model" --instructions "$data/test.jsonl" --output-dir "$out"
ROWS=$rows bash "$here/evaluate.sh" "$model" "$data/test" km "$out" "$out/finetune" "$out/langbridge"
llink encoders --encoders "$model/encoder" --pairs "$data/test.en" "$data/test.km" --output-dir "$out"

# One question of a study, on the demo's own bases.
cat > "$data/study.yaml" <<YAML
encoder: $model/encoder
decoder: $model/decoder
language: km
pairs: [$data/train.en, $data/train.km]
eval_pairs: [$data/test.en, $data/test.km]
settings: {model.encoder_layer: 2, align.max_steps: ${STEPS:-120}, align.queue_size: 1024}
questions:
  teacher space: {model.teacher_conditioning: [none, center, whiten]}
YAML
llink ablate --study "$data/study.yaml" --output-dir "$out/study"

llink check-table "$out/retrieval.json"
cp "$out/study/ablation.json" "$out/study/ablation.png" "$out"
llink report "$out"
