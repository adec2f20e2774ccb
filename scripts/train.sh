#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<END
Usage: bash scripts/train.sh EXPERIMENT CRITERION SEED [--data DIR] [--out DIR] [--log-end LE]
                             [--processes N] [-- fairseq-train options]

Trains one run, or goes on with it after an interruption. On the GPU at half precision where there
is one, else on the CPU.

  EXPERIMENT     $(experiments), or a .toml file
  CRITERION      ce (label-smoothed cross-entropy) or el (encouraging loss)
  SEED           a whole number
  --data DIR     the corpus, with bin/ in it (default: the experiment's)
  --out DIR      the run's folder (default: runs/EXPERIMENT/ce-seed1, el0.5-seed1, ...)
  --log-end LE   where the bonus of el turns linear, in (0, 1] (default: 0.5)
  --processes N  train with N processes, on as many GPUs or on the CPU; they share the batch, so
                 --update-freq is divided by N
  -- ...         more options for fairseq-train, after those of the experiment

Under torchrun (torchrun --no-python ... bash scripts/train.sh ...) and under Slurm's srun the
processes that those start train one run together, on several machines too.
SIGUSR1 stops a training after a checkpoint; the same command goes on.

In the run's folder: checkpoints/, train.log, tensorboard/, and training.json when it is finished.
END
}
help_or_continue "$@"
[ $# -ge 3 ] || wrong_usage "an experiment, a criterion and a seed are needed"
set_up
# The environment's Python takes this shell's place, so that stopping it stops the training.
exec "$python" -m el_fairseq.runs.training "$@"
