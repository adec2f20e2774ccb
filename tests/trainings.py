"""Trainings by fairseq in the test's own process: a few updates of tiny models in a second."""

import copy
import itertools

from conftest import DEVICE
from fairseq import options, tasks, utils
from fairseq.data import iterators
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.logging import metrics
from fairseq.trainer import Trainer
from omegaconf import open_dict
from sizes import transformer, words_of

import el_fairseq.criterion  # noqa: F401  (registers the criterion)

TIMES = ("train_wall", "ups", "wps")
ENCODER_DECODER = words_of(transformer(8))
DECODER = words_of(transformer(8, ["decoder"]))


def configuration(data, *words):
    """fairseq's configuration of a training, one epoch of small batches."""
    words = [
        *(["--cpu"] if DEVICE == "cpu" else []),
        *(str(data), "--optimizer", "adam", "--lr", "0.01", "--dropout", "0"),
        *("--max-tokens", "64", "--max-epoch", "1", "--required-batch-size-multiple", "1"),
        *("--num-workers", "0", "--seed", "1", *map(str, words)),
    ]
    args = options.parse_args_and_arch(options.get_training_parser(), words)
    return convert_namespace_to_omegaconf(args)


def with_criterion(cfg, name="encouraging_loss", **options):
    """The same with a criterion and its options, label smoothing 0.1 unless they say otherwise."""
    cfg = copy.deepcopy(cfg)
    with open_dict(cfg):
        cfg.criterion = {"_name": name, "label_smoothing": 0.1, "sentence_avg": False, **options}
    return cfg


def train(cfg, updates=None):
    """Train for one epoch, or fewer updates, as fairseq-train does, and save nothing.

    Returns the log of each update (numbers, with ``gnorm``) and the weights by name.
    """
    metrics.reset()
    utils.set_torch_seed(cfg.common.seed)
    task = tasks.setup_task(cfg.task)
    model = task.build_model(cfg.model)
    trainer = Trainer(cfg, task, model, task.build_criterion(cfg.criterion))
    epoch = trainer.get_train_iterator(epoch=1)
    trainer.begin_epoch(1)
    batches = epoch.next_epoch_itr(shuffle=False)
    logs = []
    with metrics.aggregate():
        for batch in itertools.islice(
            iterators.GroupedIterator(batches, cfg.optimization.update_freq[0]), updates
        ):
            with metrics.aggregate(new_root=True) as logged:
                trainer.train_step(batch)
            values = logged.get_smoothed_values().items()
            logs.append({key: float(value) for key, value in values if key not in TIMES})
    weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    return {"logs": logs, "weights": weights}
