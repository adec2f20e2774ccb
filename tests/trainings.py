"""Trainings by fairseq in the test's own process: a few updates of tiny models in a second."""

import json
import logging
import types

import torch
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_cli import preprocess
from fairseq_cli import train as fairseq_train

import el_fairseq.criterion  # noqa: F401  (registers the criterion)

TRANSFORMER = {
    f"{side}_{name}": value
    for side in ("encoder", "decoder")
    for name, value in [
        ("layers", 1),
        ("embed_dim", 8),
        ("ffn_embed_dim", 8),
        ("attention_heads", 2),
    ]
}


def words_of(options):
    """Options by name as words of a command line."""
    return [word for k, v in options.items() for word in (f"--{k.replace('_', '-')}", str(v))]


ENCODER_DECODER = words_of(TRANSFORMER)
DECODER = words_of({k: v for k, v in TRANSFORMER.items() if k.startswith("decoder")})


def make_corpus(folder, train=60, valid=10):
    """Random words as fairseq-preprocess leaves them: ``translation`` and ``language_modeling``."""
    generator = torch.Generator().manual_seed(3)
    for split, lines in (("train", train), ("valid", valid)):
        for side in ("de", "en"):
            lengths = torch.randint(3, 8, (lines,), generator=generator).tolist()
            words = [torch.randint(12, (n,), generator=generator).tolist() for n in lengths]
            text = "".join(" ".join(f"w{n}" for n in line) + "\n" for line in words)
            (folder / f"{split}.{side}").write_text(text)
    for name, suffix, words in (
        ("translation", "", ["-s", "de", "-t", "en", "--joined-dictionary"]),
        ("language_modeling", ".en", ["--only-source"]),
    ):
        splits = [f"--{split}pref={folder}/{split}{suffix}" for split in ("train", "valid")]
        parser = options.get_preprocessing_parser()
        preprocess.main(parser.parse_args([*words, *splits, "--destdir", str(folder / name)]))
    return types.SimpleNamespace(
        translation=folder / "translation", language_modeling=folder / "language_modeling"
    )


def train(data, folder, *words, criterion="encouraging_loss"):
    """Train on the CPU; returns the log's records of updates and the last checkpoint's weights."""
    parser = options.get_training_parser()
    args = options.parse_args_and_arch(
        parser,
        [
            *(str(data), "--save-dir", str(folder), "--cpu", "--criterion", criterion),
            *("--optimizer", "adam", "--lr", "0.01", "--dropout", "0", "--max-tokens", "64"),
            *("--required-batch-size-multiple", "1", "--num-workers", "0", "--seed", "1"),
            *("--no-epoch-checkpoints", "--log-interval", "1", "--log-format", "json"),
            *("--max-epoch", "1", "--disable-validation"),
            *map(str, words),
        ],
    )
    records = _Records()
    logger = logging.getLogger("fairseq.logging.progress_bar")
    logger.setLevel(logging.INFO)
    logger.addHandler(records)
    try:
        fairseq_train.main(convert_namespace_to_omegaconf(args))
    finally:
        logger.removeHandler(records)
    weights = None
    if (folder / "checkpoint_last.pt").exists():
        weights = torch.load(folder / "checkpoint_last.pt")["model"]
    return types.SimpleNamespace(updates=records.updates, weights=weights)


class _Records(logging.Handler):
    """The numbers that fairseq logs after each update."""

    def __init__(self):
        super().__init__()
        self.updates = []

    def emit(self, record):
        # fairseq renames its progress bar's logger for each kind of record.
        if record.name == "train_inner":
            self.updates.append({k: float(v) for k, v in json.loads(record.getMessage()).items()})
