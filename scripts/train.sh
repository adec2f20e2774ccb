#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<END
Usage: bash scripts/train.sh RECIPE CRITERION SEED [--data DIR] [--out DIR] [--log-end LE]
                             [-- fairseq-train options]

Trains one run, or goes on with it after an interruption. On the GPU at half precision where there
is one, else on the CPU.

  RECIPE         $(recipes) (scripts/recipes/RECIPE.args)
  CRITERION      ce (label-smoothed cross-entropy) or el (encouraging loss)
  SEED           a whole number
  --data DIR     the corpus, with bin/ in it (default: data/RECIPE)
  --out DIR      the run's folder (default: runs/RECIPE/ce-seed1, runs/RECIPE/el0.5-seed1, ...)
  --log-end LE   where the bonus of el turns linear, in (0, 1] (default: 0.5)
  -- ...         more options for fairseq-train, after those of the recipe

In the run's folder: checkpoints/, train.log, tensorboard/, and training.json when it is finished.
END
}
help_or_continue "$@"
[ $# -ge 3 ] || wrong_usage "a recipe, a criterion and a seed are needed"
recipe=$1 criterion=$2 seed=$3
shift 3
[ -f "$root/scripts/recipes/$recipe.args" ] ||
  wrong_usage "unknown recipe '$recipe'; the recipes are: $(recipes)"
case $criterion in ce | el) ;; *) wrong_usage "unknown criterion '$criterion'; there are ce and el" ;; esac
case $seed in *[!0-9]* | '') wrong_usage "the seed is '$seed', expected a whole number" ;; esac

set_up
# The environment's Python takes this shell's place, so that stopping it stops the training.
exec "$python" -m el_fairseq.runs.training "$root/scripts/recipes/$recipe.args" "$criterion" "$seed" \
  --data "$root/data/$recipe" --runs "$root/runs/$recipe" "$@"
