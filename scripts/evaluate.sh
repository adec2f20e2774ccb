#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'END'
Usage: bash scripts/evaluate.sh RUN [--data DIR] [--last N | --best] [--subset TEST]
                                [--name NAME] [-- fairseq-generate options]

Translates a test set with a trained run and scores all of it: averages the last N epoch
checkpoints, runs fairseq-generate with beam 5, and has sacreBLEU score the detokenized output.

  RUN             the run's folder, as scripts/train.sh made it
  --data DIR      the corpus (default: the one the run was trained on)
  --last N        how many epoch checkpoints to average (default: 3)
  --best          take checkpoint_best.pt instead of an average
  --subset TEST   a test set of the corpus, or valid (default: test)
  --name NAME     an addition to the name of the folder with the scores
  -- ...          more options for fairseq-generate

In RUN/evaluation/TEST-averagedN (or TEST-best, and -NAME): generate-SUBSET.txt,
hypotheses.LANGUAGE, scores.json and scores.txt. Called again with the same options it shows those
scores; with others it says so. A run that is not trained to its end is refused.
END
}
help_or_continue "$@"
[ $# -ge 1 ] || wrong_usage "name a run's folder"
set_up
exec "$python" -m el_fairseq.runs.evaluation "$@"
