"""An experiment: the file that says what is trained, with which losses, and how it is scored.

``scripts/README.md`` explains the keys. Relative paths in such a file, and its command, start at
the repository's folder.
"""

import difflib
import re
import shlex
from pathlib import Path
from typing import Annotated, Dict, List, Literal, Optional

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    PrivateAttr,
    ValidationError,
)

from ..common.cli import UserError, command_line
from ..common.paths import ROOT, shown
from .scores import SCORES

FOLDER = ROOT / "scripts" / "experiments"
LOSSES = {
    "CE": "--criterion label_smoothed_cross_entropy",
    "EL": "--criterion encouraging_loss --log-end 0.5",
}


def _words(text):
    if not isinstance(text, str):
        raise ValueError("expected options in shell syntax, as one text")
    return shlex.split(text, comments=True)


Words = Annotated[List[str], BeforeValidator(_words)]
Text = Annotated[str, Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # numpy takes no larger one


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class CorpusOf(_Section):
    """``command`` makes the corpus in ``folder``; ``tests`` are the sets to score (all of them)."""

    command: Annotated[Words, Field(min_length=1)]
    folder: Optional[Text] = None
    tests: Optional[Annotated[List[Text], Field(min_length=1)]] = None


class Training(_Section):
    """Options of fairseq-train, the same for every loss."""

    options: Words


class Evaluation(_Section):
    """``last`` epoch checkpoints are averaged (0: none); ``best``: ``checkpoint_best.pt``, too."""

    last: NonNegativeInt = 0
    best: bool = False
    options: Words = []


class Runs(_Section):
    """Seeds, trainings side by side on a CPU, and whether a CPU is what it is made for."""

    seeds: Annotated[List[Seed], Field(min_length=1)] = [1, 2, 3, 4, 5]
    jobs: PositiveInt = 1
    cpu: bool = False


class Report(_Section):
    """Options of the analysis."""

    options: Words = []


class Published(_Section):
    """Published figures: of a score (``measure``) each loss has its mean and standard deviation."""

    source: Text = "published"
    measure: Literal[tuple(score.key for score in SCORES)] = "bleu"
    scores: Dict[str, Annotated[List[float], Field(min_length=2, max_length=2)]] = {}


def slug(loss):
    """A loss's name in that of a run's folder: ``ce`` of ``CE``, ``el-0.75`` of ``EL 0.75``."""
    return re.sub(r"[^\w.]+", "-", loss).strip("-").lower()


class Experiment(_Section):
    """What an experiment's file says; options and commands are lists of words."""

    title: Text
    corpus: CorpusOf
    train: Training
    losses: Annotated[Dict[Text, Words], Field(min_length=1)] = Field(
        default=LOSSES, validate_default=True
    )
    evaluate: Evaluation = Evaluation()
    runs: Runs = Runs()
    report: Report = Report()
    published: Published = Published()
    _path: Path = PrivateAttr()  # the file

    @property
    def name(self):
        return self._path.stem

    @property
    def argument(self):
        """What commands in the repository's folder call it by: its name, or its file."""
        return self.name if self._path.parent == FOLDER else shown(self._path)

    @property
    def data(self):
        """The corpus's folder."""
        return ROOT / (self.corpus.folder or Path("data", self.name))

    @property
    def folder(self):
        """The folder of its runs."""
        return ROOT / "runs" / self.name

    @property
    def models(self):
        """What is evaluated of a run, ``{"averaged5": 5, "best": 0}``; tables compare the first."""
        last = self.evaluate.last
        averaged = {f"averaged{last}": last} if last else {}
        return {**averaged, "best": 0} if self.evaluate.best else averaged

    def loss(self, name):
        """The one of :attr:`losses` that is called so, in capitals or not."""
        for loss in self.losses:
            if name.lower() in (loss.lower(), slug(loss)):
                return loss
        raise UserError(
            f"there is no loss {name} in {self.argument}: name one of {', '.join(self.losses)}"
        )


def names():
    """Names of the experiments in ``scripts/experiments``."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def parser_of(script, description, rest="[options]"):
    """A parser for ``scripts/SCRIPT.sh EXPERIMENT REST``."""
    made = command_line(f"bash scripts/{script}.sh", description, f"EXPERIMENT {rest}")
    known = f"{', '.join(names())}, or a .toml file (scripts/README.md says what stands in it)"
    made.add_argument("experiment", help=known)
    return made


def read_experiment(name_or_file, last=None):
    """Read an experiment by its name, or from a file.

    ``last`` is how many epoch checkpoints to average; ``None``: what the file says.
    """
    import tomllib  # Python 3.11's; the loss and the criterion run on earlier ones

    path = FOLDER / f"{name_or_file}.toml"
    if str(name_or_file) not in names():
        path = Path(name_or_file).absolute()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(
            f"there is no experiment {name_or_file}: name one of {', '.join(names())}, or a .toml "
            "file"
        ) from None
    except ValueError as error:  # also a UnicodeDecodeError
        raise UserError(f"{path} is no TOML: {error}") from None
    if last is not None and isinstance(content.setdefault("evaluate", {}), dict):
        content["evaluate"]["last"] = last
    try:
        experiment = Experiment.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: {_first(error.errors())}") from None
    experiment._path = path
    if not experiment.models:
        raise UserError(
            f"{path}: [evaluate] has neither last nor best: say how many epoch checkpoints to "
            "average (last = 5, or --last 5), or take the best one (best = true)"
        )
    for name in set(experiment.published.scores) - set(experiment.losses):
        raise UserError(
            f"{path}: published.scores names {name}, expected some of the losses "
            f"{', '.join(experiment.losses)}"
        )
    slugs = list(map(slug, experiment.losses))
    if len(set(slugs)) < len(slugs) or not all(slugs):
        raise UserError(
            f"{path}: the losses {', '.join(experiment.losses)} would name their runs "
            f"{', '.join(slugs)}: expected different names, of letters and digits"
        )
    return experiment


def _first(errors):
    """The first of pydantic's errors as a line; an unknown key comes before all others."""
    error = min(errors, key=lambda one: one["type"] != "extra_forbidden")
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        keys = []
        for name, field in Experiment.model_fields.items():
            inner = getattr(field.annotation, "model_fields", ())
            keys += [name, *(f"{name}.{one}" for one in inner)]
        like = difflib.get_close_matches(key, keys, 1) or [", ".join(keys)]
        return f"there is no key {key}, expected {like[0]}"
    if error["type"] == "missing":
        return f"{key} is missing"
    reason = error["msg"].removeprefix("Value error, ")
    return f"{key} is {error['input']!r}: {reason[0].lower()}{reason[1:]}"
