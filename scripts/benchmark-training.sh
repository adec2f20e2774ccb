#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'END'
Usage: bash scripts/benchmark-training.sh [--rounds N] [--updates N] [--data DIR] [--out DIR]
                                          [-- fairseq-train options]

Words per second of whole trainings, cross-entropy and encouraging loss taking turns: the demo's
model on the demo's data, without validation and checkpoints. About ten minutes on two CPU cores.

  --rounds N    trainings of each criterion (default: 5)
  --updates N   updates of each training (default: 100)
  --data DIR    the corpus, with bin/ in it (default: data/home-assistant-fr-en, made if missing)
  --out DIR     where the logs go (default: runs/benchmark-training)
  -- ...        more options for fairseq-train, after those of the experiment

Nothing else should run on the machine meanwhile.
END
}
help_or_continue "$@"
pair=fr-en
rounds=5 updates=100 data=$root/data/home-assistant-$pair out=$root/runs/benchmark-training
while [ $# -gt 0 ]; do
  case $1 in
    --rounds | --updates | --data | --out)
      [ $# -ge 2 ] || wrong_usage "$1 needs a value"
      declare "${1#--}=$2"
      shift 2 ;;
    --) shift; break ;;
    *) wrong_usage "unknown option '$1'" ;;
  esac
done
for number in "$rounds" "$updates"; do
  case $number in *[!0-9]* | '' | 0) wrong_usage "'$number' is no number of rounds or updates" ;; esac
done

if [ -d "$out" ] && [ ! -e "$out/lock" ] && [ -n "$(ls -A "$out")" ]; then
  die "--out is $out, which holds other files; name a new or empty folder"
fi
set_up
[ -d "$data/bin" ] || [ "$data" != "$root/data/home-assistant-$pair" ] ||
  "$root/data-prep/home-assistant.sh" "$pair"
[ -d "$data/bin" ] || die "$data has no bin/: name a corpus made by data-prep/"
mkdir -p "$out"
only_one "$out/lock" "the benchmark is being run"
rm -f "$out"/ce-[0-9]*.log "$out"/el-[0-9]*.log

device=(--cpu)
"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' &&
  device=(--fp16 --distributed-world-size 1)
mapfile -t train < <("$python" -c '
import sys
from el_fairseq.runs.experiment import read_experiment
print(*read_experiment(sys.argv[1]).train_options, sep="\n")' "home-assistant-$pair")

# A training ends with this script, or, where that is killed, holds the lock to its own end: beside a
# training that nobody knows of, the next measurement would be wrong.
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT

# train NAME CRITERION: NAME.log holds what the training said.
train() {
  local log=$out/$1.log
  fairseq-train "$data/bin" --user-dir "$root/el_fairseq" "${device[@]}" "${train[@]}" \
    --criterion "$2" --max-update "$updates" --log-interval 10 --log-format json --no-save \
    --disable-validation --seed 1 "${options[@]}" >"$log" 2>&1 &
  wait $! ||
    die "fairseq-train ended with status $?, see $log: $(grep -v '^ *$' "$log" | tail -n 1)"
}
options=("$@")
for round in $(seq "$rounds"); do
  say "round $round of $rounds"
  train "ce-$round" label_smoothed_cross_entropy
  train "el-$round" encouraging_loss
done
"$python" -m el_fairseq.benchmarks.loss --training "$out"
