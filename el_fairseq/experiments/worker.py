"""``fairseq-train`` as a run's own process: a resumed training equals an uninterrupted one.

Each function below takes the place of one of fairseq's; its docstring says what differs. Besides,
a checkpoint and its copies (``checkpoint_best.pt``, ``checkpoint_last.pt``) are written to a
temporary file, then renamed. No other process imports this module, because that changes fairseq.
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
from fairseq.optim.dynamic_loss_scaler import DynamicLossScaler
from fairseq.tasks import FairseqTask
from fairseq.trainer import Trainer

from .. import criterion  # noqa: F401  (registers it, and has checkpoints read safely)
from ..common.cli import UserError, run
from ..common.processes import STOPPED
from ..corpora.binarize import languages_and_dictionaries
from ..corpora.data_bin import test_sets
from ..fairseq_compat import instead_of
from .checkpoints import copy, save

logger = logging.getLogger(__name__)
_last_validation, _stop_asked = {}, []


@instead_of(FairseqTask, "get_batch_iterator")
def _get_batch_iterator(original, self, dataset, *arguments, **options):
    """fairseq composes batches by its seed and the epoch at which the process started. Here they
    are always those of a process that started at epoch 1."""
    made_once = not (
        options.get("disable_iterator_cache")
        or options.get("update_epoch_batch_itr")
        or getattr(self.cfg, "rebuild_batches", False)
    )
    if made_once and self.can_reuse_epoch_itr(dataset):
        options["epoch"] = 1
    return original(self, dataset, *arguments, **options)


@instead_of(checkpoint_utils, "torch_persistent_save")
def _save(original, state, path, async_write=False):
    save(state, path)


@instead_of(PathManager, "copy")
def _copy(original, source, target, overwrite=False):
    copy(source, target)
    return True


@instead_of(fairseq_train, "get_valid_stats")
def _get_valid_stats(original, *arguments):
    stats = original(*arguments)
    _last_validation.update(
        {name: float(stats[name]) for name in ("nll_loss", "accuracy") if name in stats}
    )
    return stats


def _fp32_weights(trainer):
    """Those of --fp16, whose roundings are fairseq's model."""
    weights = getattr(trainer.optimizer, "fp32_params", [])
    return [each.data for each in (weights.values() if isinstance(weights, dict) else weights)]


@instead_of(Trainer, "save_checkpoint")
def _save_checkpoint(original, self, filename, extra_state):
    """``extra_state`` also holds the last validation, how long ``--patience`` has waited, and of
    --fp16 the weights in float32 and the age of the loss scale."""
    scaler = getattr(self.optimizer, "scaler", None)
    more = {
        "last_validation": dict(_last_validation),
        "early_stopping": dict(vars(fairseq_train.should_stop_early)),
        "fp32_weights": [each.cpu() for each in _fp32_weights(self)],
        "loss_scaler": dict(vars(scaler)) if isinstance(scaler, DynamicLossScaler) else {},
    }
    return original(self, filename, {**extra_state, **more})


@instead_of(checkpoint_utils, "load_checkpoint")
def _load_checkpoint(original, config, trainer, **options):
    """Resumed from the last checkpoint, fairseq trains at least one more update; here it stops
    where the training was at its end."""
    extra_state, iterator = original(config, trainer, **options)
    if not Path(config.save_dir, "checkpoint_last.pt").exists():
        return extra_state, iterator
    _last_validation.update(extra_state.get("last_validation", {}))
    vars(fairseq_train.should_stop_early).update(extra_state.get("early_stopping", {}))
    for weights, saved in zip(_fp32_weights(trainer), extra_state.pop("fp32_weights", [])):
        weights.copy_(saved)
    if extra_state.get("loss_scaler"):
        vars(trainer.optimizer.scaler).update(extra_state["loss_scaler"])
    position = extra_state["train_iterator"]
    if position["epoch"] > 1 and position["iterations_in_epoch"] == 0:
        # fairseq tells the scheduler the loss when the checkpoint is written already.
        trainer.lr_step(position["epoch"] - 1, extra_state["val_loss"])
    limits, patience = trainer.cfg.optimization, trainer.cfg.checkpoint.patience
    if (
        trainer.get_num_updates() >= (limits.max_update or math.inf)
        or 0 < limits.stop_time_hours < trainer.cumulative_training_time() / 3600
        or 0 < patience <= getattr(fairseq_train.should_stop_early, "num_runs", 0)
    ):
        logger.info("the training was at its end already")
        sys.exit()
    return extra_state, iterator


@instead_of(Trainer, "__init__")
def _init(original, self, config, task, model, *arguments, **options):
    """A test set with sentences that are longer than the model takes, which fairseq-generate
    refuses when all is trained, is refused before the first update."""
    positions = utils.resolve_max_positions(task.max_positions(), model.max_positions())
    asked = task.cfg
    _, pair, _ = languages_and_dictionaries(asked.data, asked.source_lang, asked.target_lang)
    for subset in test_sets(Path(asked.data), pair):
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


@instead_of(fairseq_train, "validate_and_save")
def _validate_and_save(original, config, trainer, task, iterator, *arguments):
    """After SIGUSR1 it writes a checkpoint and ends the process with status 75."""
    losses, should_stop = original(config, trainer, task, iterator, *arguments)
    if _stop_asked and not should_stop and trainer.data_parallel_rank == 0:
        state = {"train_iterator": iterator.state_dict(), "val_loss": losses[0]}
        if hasattr(checkpoint_utils.save_checkpoint, "best"):
            state["best"] = checkpoint_utils.save_checkpoint.best
        trainer.consolidate_optimizer()
        trainer.save_checkpoint(str(Path(config.checkpoint.save_dir, "checkpoint_last.pt")), state)
        logger.info(f"stopped after update {trainer.get_num_updates()}")
        sys.exit(STOPPED)
    return losses, should_stop


# Processes that torch starts for further GPUs import this module, too.
signal.signal(signal.SIGUSR1, lambda *_: _stop_asked.append(True))
# File descriptor 0 is the run's lock. Close it in forked data loaders, or orphans hold it: they
# notice only seconds later that their parent was killed.
os.register_at_fork(after_in_child=lambda: os.dup2(os.open(os.devnull, os.O_RDONLY), 0))
if __name__ == "__main__":
    run(fairseq_train.cli_main)
