"""An experiment: the file that says what is trained on what, and how it is evaluated.

``scripts/experiments/*.toml`` are those of this repository, ``scripts/README.md`` explains the
keys. Relative paths in such a file start at the repository's folder, and so does its command.
"""

import argparse
import difflib
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ..common.cli import UserError, number_from
from ..common.paths import ROOT, shown

FOLDER = ROOT / "scripts" / "experiments"
CRITERIA = ("ce", "el")
MEASURES = ("bleu", "chrf", "ter", "tokenized_bleu")


@dataclass(frozen=True)
class Published:
    """Published figures: ``scores`` maps a loss to its mean and standard deviation over seeds."""

    source: str
    measure: str
    scores: dict


@dataclass(frozen=True)
class Experiment:
    """What an experiment's file says; options and commands are lists of words.

    ``corpus`` is the folder that ``command`` makes, ``tests`` the names of its test sets
    (``None``: all). ``last`` epoch checkpoints are averaged (0: none), and the best one is
    evaluated beside where ``best`` says so.
    """

    name: str
    path: Path
    title: str
    command: list
    corpus: Path
    tests: Optional[list]
    train_options: list
    last: int
    best: bool
    evaluate_options: list
    seeds: list
    criteria: list
    log_ends: list
    jobs: int
    cpu: bool
    report_options: list
    published: Optional[Published]

    @property
    def word(self):
        """What a command calls it by, in any folder: its name, or its file."""
        return self.name if self.path.parent == FOLDER else str(self.path)

    @property
    def shown_word(self):
        """The same as people read and type it in the repository's folder."""
        return self.name if self.path.parent == FOLDER else shown(self.path)


def names():
    """Names of the experiments in ``scripts/experiments``."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_experiment(name_or_file):
    """Read an experiment by its name, or from a file.

    Raises:
        UserError: there is none of that name, or its file has an unknown, missing or wrong key;
            the message names the file, the key and what was expected.
    """
    path = FOLDER / f"{name_or_file}.toml"
    if str(name_or_file) not in names():
        path = Path(name_or_file).absolute()
    values = _checked(path, _flat(_parsed(path, name_or_file)))
    if not values["evaluate.last"] and not values["evaluate.best"]:
        raise UserError(
            f"{path}: [evaluate] has neither last nor best: say how many epoch checkpoints to "
            "average (last = 5), or take the best one (best = true)"
        )
    published = None
    if values["published.scores"] is not None:
        published = Published(
            values["published.source"], values["published.measure"], values["published.scores"]
        )
    return Experiment(
        name=path.stem,
        path=path,
        title=values["title"],
        command=values["corpus.command"],
        corpus=ROOT / (values["corpus.folder"] or Path("data", path.stem)),
        tests=values["corpus.tests"],
        train_options=values["train.options"],
        last=values["evaluate.last"],
        best=values["evaluate.best"],
        evaluate_options=values["evaluate.options"],
        seeds=values["runs.seeds"],
        criteria=values["runs.criteria"],
        log_ends=values["runs.log-ends"],
        jobs=values["runs.jobs"],
        cpu=values["runs.cpu"],
        report_options=values["report.options"],
        published=published,
    )


def run_name(criterion, log_end, seed):
    """Name of a run's folder: ``ce-seed1``, ``el0.5-seed1``."""
    return f"ce-seed{seed}" if criterion == "ce" else f"el{log_end}-seed{seed}"


def loss_name(criterion, log_end):
    """Name of a loss in tables: ``CE``, ``EL, log end 0.5``."""
    return "CE" if criterion == "ce" else f"EL, log end {log_end}"


def criterion_options(criterion, log_end):
    """fairseq-train options of a criterion; label smoothing is the experiment's, same for both."""
    if criterion == "ce":
        return ["--criterion", "label_smoothed_cross_entropy", "--report-accuracy"]
    return ["--criterion", "encouraging_loss", "--log-end", str(log_end), "--report-accuracy"]


def option_value(options, name, default):
    """The value of an option of fairseq-train among ``options``, the last one given."""
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    reader.add_argument(name, dest="value", default=default)
    return reader.parse_known_args(options)[0].value


def option_number(options, name):
    """The number that is an option's value; 0 where there is none: fairseq says what is wrong."""
    try:
        return float(option_value(options, name, 0))
    except ValueError:
        return 0


def divided_update_freq(options, processes):
    """``--update-freq`` with which ``processes`` share the batch that ``options`` give one.

    Raises:
        UserError: it is not divisible.
    """
    text = option_value(options, "--update-freq", "1")
    frequencies = text.split(",")
    if not all(number.isdecimal() and int(number) % processes == 0 for number in frequencies):
        raise UserError(
            f"--update-freq is {text}, which {processes} processes cannot share without another "
            "batch: leave out --processes, --gpus-per-run and --nodes, or halve --max-tokens and "
            "double --update-freq in the experiment until it can be divided"
        )
    return ["--update-freq", ",".join(str(int(number) // processes) for number in frequencies)]


def seed(value):
    """Reader of a seed: a whole number below 2^32, which is all that numpy takes."""
    if number_from(0)(value) >= 2**32:
        raise ValueError
    return int(value)


def log_end(value):
    """Reader of a log end: a number in (0, 1]."""
    if isinstance(value, bool) or not 0 < float(value) <= 1:
        raise ValueError
    return float(value)


def criterion(value):
    """Reader of a criterion."""
    if value not in CRITERIA:
        raise ValueError
    return value


def _parsed(path, asked):
    import tomllib  # Python 3.11's; the loss and the criterion run on earlier ones

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(
            f"there is no experiment {asked}: name one of {', '.join(names())}, or a .toml file"
        ) from None
    except ValueError as error:  # also a UnicodeDecodeError
        raise UserError(f"{path} is no TOML: {error}") from None


def _flat(content):
    """``{"section.key": value}``; what stands before the sections keeps its name."""
    flat = {}
    for name, value in content.items():
        if isinstance(value, dict):
            flat.update({f"{name}.{key}": inner for key, inner in value.items()})
        else:
            flat[name] = value
    return flat


def _checked(path, given):
    for key in given:
        if key not in KEYS:
            like = difflib.get_close_matches(key, KEYS, 1) or [", ".join(KEYS)]
            raise UserError(f"{path}: there is no key {key}, expected {like[0]}")
    values = {}
    for key, (expected, read, default) in KEYS.items():
        if key not in given:
            if default is _REQUIRED:
                raise UserError(f"{path}: {key} is missing, expected {expected}")
            values[key] = default
            continue
        try:
            values[key] = read(given[key])
        except (TypeError, ValueError):
            raise UserError(f"{path}: {key} is {given[key]!r}, expected {expected}") from None
    if not re.fullmatch(r"[\w.-]+", path.stem):
        raise UserError(
            f"{path}: the file's name names the experiment, expected letters, digits, '.', '_', '-'"
        )
    return values


def _text(value):
    if not isinstance(value, str) or not value.strip():
        raise TypeError
    return value


def _words(value):
    return shlex.split(_text(value) if value != "" else value, comments=True)


def _command(value):
    return shlex.split(_text(value))


def _flag(value):
    if not isinstance(value, bool):
        raise TypeError
    return value


def _list_of(read):
    def read_list(values):
        found = [read(value) for value in values]
        if isinstance(values, str) or not found or len(set(found)) < len(found):
            raise TypeError
        return found

    return read_list


def _measure(value):
    if value not in MEASURES:
        raise ValueError
    return value


def _figures(value):
    return {loss: (float(mean), float(deviation)) for loss, (mean, deviation) in value.items()}


_REQUIRED = object()
_OPTIONS = "options in shell syntax, quotes closed"
SEED = "a whole number from 0 to 2^32 - 1"
LOG_END = "a number in (0, 1]"
# What is expected of a key, its reader, and its default.
KEYS = {
    "title": ("a text", _text, _REQUIRED),
    "corpus.command": ("the command that makes the corpus", _command, _REQUIRED),
    "corpus.folder": ("a folder", _text, None),
    "corpus.tests": ("a list of names of test sets", _list_of(_text), None),
    "train.options": (_OPTIONS, _words, _REQUIRED),
    "evaluate.last": ("a whole number from 0", number_from(0), 0),
    "evaluate.best": ("true or false", _flag, False),
    "evaluate.options": (_OPTIONS, _words, []),
    "runs.seeds": ("a list of different whole numbers from 0", _list_of(seed), [1, 2, 3, 4, 5]),
    "runs.criteria": ('a list of "ce", "el" or both', _list_of(criterion), list(CRITERIA)),
    "runs.log-ends": ("a list of different numbers in (0, 1]", _list_of(log_end), [0.5]),
    "runs.jobs": ("a whole number from 1", number_from(1), 1),
    "runs.cpu": ("true or false", _flag, False),
    "report.options": (_OPTIONS, _words, []),
    "published.source": ("a text", _text, "published"),
    "published.measure": (f"one of {', '.join(MEASURES)}", _measure, "bleu"),
    "published.scores": (
        '{"CE" = [mean, standard deviation], ...}, a loss as the table calls it',
        _figures,
        None,
    ),
}
