#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<END
Usage: bash scripts/reproduce.sh EXPERIMENT [options] [-- fairseq-train options]

Runs an experiment: prepares the data, trains a model with each loss and seed, translates and scores
the test sets with every model, writes a report of what each loss did to its model (report.html),
and prints the table. Stopped at any point, the same command goes on.

  EXPERIMENT         $(experiments),
                     or a .toml file (scripts/README.md says what stands in it)
  --seeds LIST       seeds (default: the experiment's, as for all others; theirs are 1,2,3,4,5)
  --criteria LIST    ce, el or both
  --log-ends LIST    log ends of EL, each trained
  --last N           how many epoch checkpoints to average
  --archive FILE     the data's archive, instead of downloading it
  --data DIR         the corpus (default: data/EXPERIMENT)
  --runs DIR         where the runs and results.json go (default: runs/EXPERIMENT)
  --dry-run          print every command, and with --slurm the jobs, and do nothing

On this machine:
  --gpus N           how many of its GPUs to use (default: all)
  --gpus-per-run K   GPUs of one training, which then divides the experiment's --update-freq
                     (default: 1, and as many trainings side by side as there are GPUs)
  --jobs N           trainings side by side (default: one for each GPU, or K GPUs; on a CPU the
                     experiment's, which share its cores)
  --cpu              train on the CPU, also where the experiment is made for a GPU

By Slurm, from a login node:
  --slurm            submit an array job with a task for each run that is not finished, and a job
                     for table and report after it
  --nodes N          machines of one training, each with --gpus-per-run GPUs (default: 1)
  --jobs N           tasks at a time (--gpus N: as many as N GPUs serve; default: no limit)
  --sbatch OPTIONS   for sbatch, such as "--time=8:00:00 --partition=gpu --mem=32G"
  --prologue TEXT    shell code for the beginning of each job, such as "module load cuda"
END
}
help_or_continue "$@"
[ $# -ge 1 ] || wrong_usage "name an experiment: $(experiments), or a .toml file"
# A dry run makes nothing and changes nothing, not even the environment: any Python does, without
# torch, which only the package's own __init__ needs here.
if before_dashes --dry-run "$@"; then
  [ -x "$python" ] || python=$(find_python) ||
    die "a dry run needs a Python 3.11 or 3.12; name one: EL_PYTHON=/path/to/it"
  exec "$python" -c '
import runpy, sys, types
package = sys.modules["el_fairseq"] = types.ModuleType("el_fairseq")
package.__path__ = [sys.argv.pop(1)]
runpy.run_module("el_fairseq.experiments.reproduce", run_name="__main__", alter_sys=True)
' "$root/el_fairseq" "$@"
fi
set_up
exec "$python" -m el_fairseq.experiments.reproduce "$@"
