#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'END'
Usage: bash scripts/reproduce.sh iwslt14-de-en|iwslt17-fr-en [options] [-- fairseq-train options]

Reproduces an experiment of the paper: prepares the data, trains CE and EL with five seeds each,
translates and scores the test set with every model, prints the table beside the paper's, and
writes a report of what each loss did to its model (report.html).
Stopped at any point, the same command goes on.

  --seeds LIST       seeds (default: 1,2,3,4,5)
  --criteria LIST    ce, el or both (default: ce,el)
  --log-ends LIST    log ends of EL, each trained (default: 0.5)
  --gpus N           how many of the machine's GPUs to use (default: all)
  --gpus-per-run K   GPUs of one training, which then divides the recipe's --update-freq
                     (default: 1, and as many trainings side by side as there are GPUs)
  --jobs N           trainings side by side (default: one for each GPU, or K GPUs; one on a CPU)
  --cpu              train on the CPU; without it, a machine without a GPU is told how long
                     that would take, and nothing starts
  --slurm            submit an array job to Slurm, one task a run
  --dry-run          print every command, and with --slurm the job, and do nothing
  --archive FILE     the data's archive, instead of downloading it
  --data DIR         the corpus (default: data/EXPERIMENT)
  --runs DIR         where the runs and results.json go (default: runs/EXPERIMENT)
  --last N           how many epoch checkpoints to average (default: 10)
END
}
help_or_continue "$@"
[ $# -ge 1 ] || wrong_usage "name an experiment: iwslt14-de-en or iwslt17-fr-en"
set_up
exec "$python" -m el_fairseq.experiments.reproduce "$@"
