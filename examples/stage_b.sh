# Sourced: a training that goes on from its last checkpoint, and is not made again when it is there.
#   train COMMAND OUTPUT_DIR [OPTION…]: `llink COMMAND` with the options in the array `stage_b`, which the caller sets
train() {
  [ -e "$2/trainer_state.json" ] && return
  local last=()
  compgen -G "$2/checkpoint-*" > /dev/null && last=(--resume_from_checkpoint last)
  llink "$1" "${stage_b[@]}" "${@:3}" "${last[@]}" --output-dir "$2"
}
