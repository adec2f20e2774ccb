#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'END'
Usage: bash scripts/demo.sh [--pair de-en|fr-en] [--out DIR] [-- fairseq-train options]

Cross-entropy against the encouraging loss, from nothing to a BLEU table: installs what is needed,
prepares a real corpus, trains the same small Transformer with both losses at the same time,
scores both, and writes a report of what each loss did to its model. Under 15 minutes on two CPU
cores. Run again, it goes on where it stopped, or shows the results at once.

  --pair PAIR   de-en (default) or fr-en
  --out DIR     where the results go (default: runs/demo, runs/demo-fr-en)
  -- ...        more options for both trainings, such as --max-epoch 40; give --out with them

In the folder: report.html and report.md (what the losses did to the models), results.json,
table.txt, curves.png, translations.txt, analysis/, and a folder for each run.
END
}
help_or_continue "$@"
pair=de-en out=
while [ $# -gt 0 ]; do
  case $1 in
    --pair | --out)
      [ $# -ge 2 ] || wrong_usage "$1 needs a value"
      declare "${1#--}=$2"
      shift 2 ;;
    --) shift; break ;;
    *) wrong_usage "unknown option '$1'" ;;
  esac
done
options=("$@")
case $pair in
  de-en) demo=${out:-$root/runs/demo} ;;
  fr-en) demo=${out:-$root/runs/demo-fr-en} ;;
  *) wrong_usage "unknown pair '$pair'; the pairs are de-en and fr-en" ;;
esac

data=$root/data/home-assistant-$pair
runs=(ce-seed1 el0.5-seed1)
averaged=3

show() {
  printf '\nTen translations of the test set, evenly spread over it:\n\n'
  cat "$demo/translations.txt"
  cat "$demo/table.txt"
  printf '\nTable and translations: %s\nCurves: %s\n' "$demo" "$demo/curves.png"
  printf 'Report, to open in a browser: %s\n' "$demo/report.html"
}
if [ -f "$demo/results.json" ] && [ -f "$demo/report.html" ]; then
  show
  exit 0
fi

set_up
"$root/data-prep/home-assistant.sh" "$pair"
mkdir -p "$demo"
only_one "$demo/lock" "the demo is being run"

# in_parallel COMMAND...: runs COMMAND CRITERION for both criteria, each on half of the cores.
# Each is a process group of its own (set -m), which this script ends when it is stopped itself.
trap 'for job in $(jobs -p); do kill -- "-$job"; done 2>/dev/null || true' EXIT
cores=$(nproc)
export OMP_NUM_THREADS=$((cores > 1 ? cores / 2 : 1))
in_parallel() {
  local job jobs=()
  set -m
  for criterion in ce el; do
    "$@" "$criterion" 8>&- &
    jobs+=($!)
  done
  set +m
  for job in "${jobs[@]}"; do
    wait "$job" || die "a run failed, the reason stands above; run this again and it goes on"
  done
}
train() {
  exec bash "$root/scripts/train.sh" "home-assistant-$pair" "$1" 1 --data "$data" --runs "$demo" -- "${options[@]}"
}
evaluate() {
  local run=ce-seed1
  [ "$1" = ce ] || run=el0.5-seed1
  exec bash "$root/scripts/evaluate.sh" "$demo/$run" --last "$averaged" >/dev/null
}
say "Training CE and EL at the same time, $OMP_NUM_THREADS thread(s) each."
in_parallel train
in_parallel evaluate

evaluation=test-averaged$averaged
"$python" -m el_fairseq.runs.record "${runs[@]/#/$demo/}" --evaluation "$evaluation" \
  --output "$demo/.results.json" >"$demo/table.txt"
"$python" -m el_fairseq.report.curves "$demo/.results.json" --output "$demo/curves.png" \
  --title "Home Assistant $pair: one small Transformer, two losses"
"$python" -m el_fairseq.report.side_by_side "$demo/.results.json" --data "$data" \
  --evaluation "$evaluation" >"$demo/translations.txt"
mv "$demo/.results.json" "$demo/results.json"
say "Analysing both models and writing the report."
"$root/scripts/report.sh" "$demo" -- --noise-sentences 100 --beam 2 >/dev/null
show
