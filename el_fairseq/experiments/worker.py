"""``fairseq-train`` as a run's own process: a resumed training equals an uninterrupted one.

It is fairseq's program with these differences:

- fairseq composes batches by its seed and the epoch at which the process started, so that a
  resumed training sees others than an undisturbed one. Here they are always those of a process
  that started at epoch 1.
- Resumed from its last checkpoint, fairseq trains at least one more update, past the end of the
  training, and it forgets how long ``--patience`` has waited. Here it stops at the end.
- With ``--restore-file`` and ``--reset-...`` fairseq starts from that file each time. Here a run
  that has a checkpoint of its own goes on from that.
- A checkpoint is written to a temporary file, then renamed, and so are its copies
  (``checkpoint_best.pt``, ``checkpoint_last.pt``).
- SIGUSR1 has it write a checkpoint after the update that it is at, and end with status 75.
- ``extra_state`` of a checkpoint also holds the last validation (``last_validation``).
- A test set with sentences that are longer than the model takes, which fairseq-generate refuses
  when all is trained, is refused before the first update.
"""

import logging
import math
import os
import signal
import sys
from pathlib import Path

# First of all that imports fairseq: it says what is logged, and where.
from fairseq_cli import train as fairseq_train

# isort: split

from fairseq import checkpoint_utils, utils
from fairseq.file_io import PathManager
from fairseq.tasks import FairseqTask
from fairseq.trainer import Trainer
from omegaconf import open_dict

from .. import criterion  # noqa: F401  (registers it, and has checkpoints read safely)
from ..common.cli import UserError, run
from ..common.processes import STOPPED
from .checkpoints import copy, save

logger = logging.getLogger(__name__)
_last_validation = {}
_stop_asked = []


def _compose_batches_as_from_epoch_1():
    original = FairseqTask.get_batch_iterator

    def get_batch_iterator(self, dataset, *arguments, **options):
        made_once = not (
            options.get("disable_iterator_cache")
            or options.get("update_epoch_batch_itr")
            or getattr(self.cfg, "rebuild_batches", False)
        )
        if made_once and self.can_reuse_epoch_itr(dataset):
            options["epoch"] = 1
        return original(self, dataset, *arguments, **options)

    FairseqTask.get_batch_iterator = get_batch_iterator


def _write_checkpoints_whole():
    def copy_whole(source, target, overwrite=False):
        copy(source, target)
        return True

    checkpoint_utils.torch_persistent_save = lambda state, path, async_write=False: save(
        state, path
    )
    PathManager.copy = staticmethod(copy_whole)


def _keep_state():
    original = Trainer.save_checkpoint

    def save_checkpoint(self, filename, extra_state):
        more = {
            "last_validation": dict(_last_validation),
            "early_stopping": dict(vars(fairseq_train.should_stop_early)),
        }
        return original(self, filename, {**extra_state, **more})

    Trainer.save_checkpoint = save_checkpoint

    get_valid_stats = fairseq_train.get_valid_stats

    def keep_valid_stats(*arguments):
        stats = get_valid_stats(*arguments)
        _last_validation.update(
            {name: float(stats[name]) for name in ("nll_loss", "accuracy") if name in stats}
        )
        return stats

    fairseq_train.get_valid_stats = keep_valid_stats


def _go_on_from_last_checkpoint():
    original = checkpoint_utils.load_checkpoint

    def load_checkpoint(config, trainer, **options):
        if not Path(config.save_dir, "checkpoint_last.pt").exists():
            return original(config, trainer, **options)
        with open_dict(config):
            config.restore_file = "checkpoint_last.pt"
            for what in ("optimizer", "lr_scheduler", "meters", "dataloader"):
                config[f"reset_{what}"] = False
        extra_state, iterator = original(config, trainer, **options)
        _last_validation.update(extra_state.get("last_validation", {}))
        vars(fairseq_train.should_stop_early).update(extra_state.get("early_stopping", {}))
        position = extra_state["train_iterator"]
        if position["epoch"] > 1 and position["iterations_in_epoch"] == 0:
            # fairseq tells the scheduler the loss when the checkpoint is written already.
            trainer.lr_step(position["epoch"] - 1, extra_state["val_loss"])
        if _is_at_end(trainer):
            logger.info("the training was at its end already")
            sys.exit()
        return extra_state, iterator

    checkpoint_utils.load_checkpoint = load_checkpoint


def _refuse_tests_that_cannot_be_translated():
    original = Trainer.__init__

    def checked(self, config, task, model, *arguments, **options):
        positions = utils.resolve_max_positions(task.max_positions(), model.max_positions())
        pair = task.cfg.source_lang, task.cfg.target_lang
        patterns = [f"test*.{'-'.join(languages)}.*.idx" for languages in (pair, pair[::-1])]
        paths = {path for pattern in patterns for path in Path(task.cfg.data).glob(pattern)}
        for subset in sorted({path.name.partition(".")[0] for path in paths}):
            task.load_dataset(subset)
            dataset = task.dataset(subset)
            too_long = dataset.filter_indices_by_size(dataset.ordered_indices(), positions)[1]
            if too_long:
                raise UserError(
                    f"{len(too_long)} sentences of {task.cfg.data}'s {subset} are longer than the "
                    f"{positions} subwords that the model takes (line {min(too_long) + 1} first), "
                    "and could not be translated: add --max-source-positions and "
                    "--max-target-positions with larger numbers"
                )
        original(self, config, task, model, *arguments, **options)

    Trainer.__init__ = checked


def _stop_after_checkpoint():
    original = fairseq_train.validate_and_save

    def validate_and_save(config, trainer, task, iterator, *arguments):
        losses, should_stop = original(config, trainer, task, iterator, *arguments)
        if _stop_asked and not should_stop and trainer.data_parallel_rank == 0:
            state = {"train_iterator": iterator.state_dict(), "val_loss": losses[0]}
            if hasattr(checkpoint_utils.save_checkpoint, "best"):
                state["best"] = checkpoint_utils.save_checkpoint.best
            last = Path(config.checkpoint.save_dir, "checkpoint_last.pt")
            trainer.consolidate_optimizer()
            trainer.save_checkpoint(str(last), state)
            logger.info(f"stopped after update {trainer.get_num_updates()}")
            sys.exit(STOPPED)
        return losses, should_stop

    fairseq_train.validate_and_save = validate_and_save
    signal.signal(signal.SIGUSR1, lambda *_: _stop_asked.append(True))


def _is_at_end(trainer):
    """Whether fairseq would have stopped after the update of the checkpoint just loaded."""
    limits, patience = trainer.cfg.optimization, trainer.cfg.checkpoint.patience
    hours = trainer.cumulative_training_time() / 3600
    waited = getattr(fairseq_train.should_stop_early, "num_runs", 0)
    return (
        trainer.get_num_updates() >= (limits.max_update or math.inf)
        or 0 < limits.stop_time_hours < hours
        or 0 < patience <= waited
    )


def _leave_lock_to_this_process():
    # File descriptor 0 is the run's lock. Close it in forked data loaders, or orphans hold it: they
    # notice only seconds later that their parent was killed.
    os.register_at_fork(after_in_child=lambda: os.dup2(os.open(os.devnull, os.O_RDONLY), 0))


def adapt_fairseq():
    """Make fairseq, in this process, do what this module says."""
    _leave_lock_to_this_process()
    _compose_batches_as_from_epoch_1()
    _write_checkpoints_whole()
    _keep_state()
    _go_on_from_last_checkpoint()
    _refuse_tests_that_cannot_be_translated()
    _stop_after_checkpoint()


# Processes that torch starts for further GPUs import this module as __mp_main__.
if __name__ in ("__main__", "__mp_main__"):
    adapt_fairseq()
if __name__ == "__main__":
    run(fairseq_train.cli_main)
