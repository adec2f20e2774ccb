"""Measure what models say of every target token of a subset, and how they take other input.

Runs fairseq models teacher-forced over binarized data and writes, into a folder, analysis.json
(margins, energies, calibration before and after a temperature, accuracy by frequency, gradient
shares, out-of-domain detection, robustness to noise) and the columns of all tokens,
tokens-NAME.npz.
"""

import argparse
import functools
import logging
import math
import operator
import os
import random
import re
import shlex
import warnings
from pathlib import Path

from ..common.cli import UserError, argument, needs_extra, run, whole_number

with needs_extra("scripts"):
    import numpy as np
    import torch
    from fairseq.data import LanguagePairDataset

    from ..common.files import writing
    from ..common.paths import this_command
    from ..common.state import write_json
    from ..common.tables import Table
    from ..corpora.subwords import Subwords
    from . import distributions, frequency, noise, ood
    from .calibration import calibration
    from .gradient import gradient_shares
    from .models import load_models, load_subset
    from .runner import Runner
    from .temperature import with_temperature
    from .tokens import MEASURES


OF_THE_REPORT = ("--subset", "--model", "--out", "--ood", "--subwords")


def log_end(text):
    """Reader of a log end."""
    if not 0 < float(text) <= 1:
        raise ValueError
    return float(text)


def main():
    arguments = parse_arguments()
    logging.disable(logging.INFO)
    warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask")
    device = "cuda" if torch.cuda.is_available() and not arguments.cpu else "cpu"

    # All that can be wrong with the input shows before any long work starts.
    task, models = load_models(arguments.models, arguments.data, arguments.user_dir, device)
    dataset = load_subset(task, arguments.data, arguments.subset)
    others = {
        name: load_subset(task, folder, subset) for name, (folder, subset) in arguments.ood.items()
    }
    valid = valid_subset(task, arguments)
    translates = isinstance(dataset, LanguagePairDataset)
    if translates and dataset.tgt is None:
        raise UserError(f"subset {arguments.subset} of {arguments.data} has no target side")
    if arguments.subwords and not translates:
        raise UserError("--subwords is for noise in sources: these models have no source")
    chosen = choose(len(dataset), arguments.noise_sentences, arguments.seed)
    subwords = None
    if arguments.subwords and chosen:
        subwords = Subwords(arguments.subwords)
        noise.check_subwords(task, dataset, chosen, subwords)
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)

    runner = Runner(task, models, arguments.max_tokens, arguments.beam, device)
    columns = {model.name: runner.token_columns(model, dataset, "tokens") for model in models}
    counts = frequency.token_counts(task.target_dictionary)
    for name, table in columns.items():
        table["frequency"] = counts[table["token"]]
        with writing(out / f"tokens-{name}.npz", "wb") as file:
            np.savez_compressed(file, **table)
    result = {
        "command": this_command("analysis"),
        "data": arguments.data,
        "subset": arguments.subset,
        "sentences": len(dataset) - runner.left_out["tokens"],
        "sentences_left_out": runner.left_out["tokens"],
        "tokens": len(next(iter(columns.values()))["token"]),
        "measures": {name: told(measure) for name, measure in MEASURES.items()},
        "models": measure_tokens(models, columns, counts, arguments.log_end),
        "valid_subset": arguments.valid_subset if valid else None,
        "frequency_classes": frequency.describe_bounds(counts, frequency.frequency_bounds(counts)),
        "ood": measure_ood(runner, models, dataset, others, columns, arguments),
    }
    if valid:
        for model in models:
            found = with_temperature(runner, model, valid, dataset, columns[model.name])
            result["models"][model.name]["temperature"] = found
    if chosen and translates:
        result["noise"] = measure_noise(runner, models, dataset, chosen, subwords, arguments)
    write_json(out / "analysis.json", plain(result))
    print_summary(result)
    print(f"Written: {out / 'analysis.json'}, {', '.join(f'tokens-{m}.npz' for m in columns)}")


def told(measure):
    """A measure of tokens as a reader of ``analysis.json`` needs it."""
    return {
        name: value for name, value in vars(measure).items() if name not in ("name", "function")
    }


def valid_subset(task, arguments):
    """The dataset to fit temperatures on; ``None`` where the data have no such part."""
    if not arguments.valid_subset:
        return None
    if any(Path(arguments.data).glob(f"{arguments.valid_subset}.*")):
        return load_subset(task, arguments.data, arguments.valid_subset)
    print(f"no temperature is fitted: {arguments.data} holds no {arguments.valid_subset} subset")
    return None


def measure_tokens(models, columns, counts, log_end):
    """Everything that follows from the token columns, for each model."""
    edges = distributions.common_edges(columns.values())
    bounds = frequency.frequency_bounds(counts)
    return {
        model.name: {
            "checkpoints": model.paths,
            "logits": model.logits_are,
            "accuracy": columns[model.name]["correct"].mean(),
            "quantities": distributions.summary(columns[model.name], edges),
            "by_frequency": frequency.by_frequency(columns[model.name], bounds),
            "calibration": calibration(columns[model.name]),
            "gradient": gradient_shares(columns[model.name]["prob"], log_end),
        }
        for model in models
    }


def measure_ood(runner, models, dataset, others, columns, arguments):
    """Detection of each out-of-domain set by each score of each model."""
    in_domain = {("reference", name): ood.sentence_scores(table) for name, table in columns.items()}
    result = {}
    for set_name, other in others.items():
        # Like is compared with like: own translations on both sides where one has no references.
        translate = isinstance(other, LanguagePairDataset) and other.tgt is None
        target = "translation" if translate else "reference"
        detected = {}
        for model in models:
            if (target, model.name) not in in_domain:
                own = runner.token_columns(model, dataset, "own translations", translate)
                in_domain[target, model.name] = ood.sentence_scores(own)
            label = f"out of domain: {set_name}"
            table = runner.token_columns(model, other, label, translate)
            scores = ood.sentence_scores(table)
            detected[model.name] = {
                score: ood.detection(
                    in_domain[target, model.name][score],
                    scores[score],
                    arguments.bootstrap,
                    arguments.seed,
                )
                for score in ood.SCORES
            }
        folder, subset = arguments.ood[set_name]
        result[set_name] = {
            "data": folder,
            "subset": subset,
            "target": target,
            "sentences": len(other) - runner.left_out[label],
            "sentences_left_out": runner.left_out[label],
            "models": detected,
        }
    return result


def measure_noise(runner, models, dataset, chosen, subwords, arguments):
    """Accuracy and BLEU under noise in the source, on the chosen sentences."""
    bootstrap = arguments.seed, arguments.bootstrap
    result = {"sentences": len(chosen), "seed": arguments.seed, "beam": arguments.beam}
    if subwords:
        result["characters"] = {
            model.name: runner.noise_curve(
                model, dataset, chosen, subwords, noise.RATES, *bootstrap
            )
            for model in models
        }
    networks = [network for model in models for network in model.networks]
    if all(hasattr(getattr(network, "encoder", None), "embed_tokens") for network in networks):
        result["gradient_sign"] = {
            model.name: runner.attack_curve(model, dataset, chosen, noise.STRENGTHS, *bootstrap)
            for model in models
        }
    return result


def choose(sentences, wanted, seed):
    """Numbers of ``wanted`` sentences drawn at random, in order; all where there are no more."""
    return sorted(random.Random(seed).sample(range(sentences), min(wanted, sentences)))


def plain(value):
    """Value as JSON can hold it; floats to seven digits, and ``None`` where one is not finite."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    if isinstance(value, str):  # a path that is not UTF-8
        return os.fsencode(value).decode("utf-8", "replace")
    return value


def print_summary(result):
    """A table with a row for each number and a column for each model."""
    rows = []

    def row(label, form, *path):
        cells = [functools.reduce(operator.getitem, path, one) for one in result["models"].values()]
        rows.append([label, *(format(cell, form) for cell in cells)])

    row("accuracy", ".2%", "accuracy")
    first = next(iter(result["models"].values()))["by_frequency"]
    for name in frequency.CLASSES:
        if name in first:
            label = f"accuracy, {first[name]['tokens']:,} {name} tokens"
            row(label, ".2%", "by_frequency", name, "accuracy", "value")
    row("nll, nats", ".4f", "calibration", "nll_nats")
    row("calibration error", ".2%", "calibration", "expected_calibration_error")
    if result["valid_subset"]:
        row("temperature", ".3f", "temperature", "temperature")
        row("nll after it, nats", ".4f", "temperature", "after", "nll_nats")
        error = "expected_calibration_error"
        row("calibration error after it", ".2%", "temperature", "after", error)
    for name, measure in MEASURES.items():
        label = f"mean {measure.title}" + (f", {measure.unit}" if measure.unit else "")
        row(label, measure.form, "quantities", name, "mean")
    row("share of CE's gradient from p > 0.5", ".1%", "gradient", "ce")
    row("share of EL's gradient from p > 0.5", ".1%", "gradient", "el")
    title = f"{result['tokens']:,} tokens of {result['sentences']:,} sentences"
    if result["sentences_left_out"]:
        title += f", {result['sentences_left_out']} left out, too long for a model"
    print(Table(title, ["", *result["models"]], rows).text("simple"))


def parser():
    made = argparse.ArgumentParser(
        prog="python -m el_fairseq.analysis", description=__doc__, allow_abbrev=False
    )
    made.add_argument("data", help="folder that fairseq-preprocess made")
    made.add_argument(
        "--subset",
        default="test",
        help="which part of it, or several as one, such as test,test1 (%(default)s)",
    )
    made.add_argument(
        "--valid-subset",
        default="valid",
        metavar="SUBSET",
        help="the part that the temperature of calibration is fitted on (%(default)s); '' for none",
    )
    made.add_argument(
        "--model",
        action="append",
        required=True,
        metavar="NAME=PATH[:PATH...]",
        help="a checkpoint under a name, or several as an ensemble; once for each model",
    )
    made.add_argument("--out", required=True, metavar="FOLDER", help="where to write")
    made.add_argument(
        "--ood",
        action="append",
        default=[],
        metavar="NAME=FOLDER:SUBSET",
        help="data to tell from the subset, binarized with the same dictionaries "
        "(python -m el_fairseq.corpora.binarize); where it has no target side, sentences on "
        "both sides are judged by the model's own translations",
    )
    made.add_argument(
        "--subwords",
        metavar="FILE",
        help="SentencePiece model (FILE ends in .model) or BPE codes of the data: measures "
        "accuracy and BLEU with noise in the characters of the source",
    )
    made.add_argument(
        "--noise-sentences",
        type=whole_number(0),
        default=200,
        metavar="N",
        help="sentences, drawn at random, to measure noise on; 0 for no noise (%(default)s)",
    )
    end = argument(log_end, "a number in (0, 1]")
    made.add_argument("--log-end", type=end, default=0.5, help="of the EL gradient (0.5)")
    count = whole_number(1)
    made.add_argument("--beam", type=count, default=5, help="for translations (%(default)s)")
    made.add_argument("--bootstrap", type=count, default=200, metavar="N", help="replicates (200)")
    made.add_argument("--max-tokens", type=count, default=4096, help="a batch (%(default)s)")
    made.add_argument("--seed", type=int, default=1, help="of noise and bootstrap (1)")
    made.add_argument("--user-dir", help="as for fairseq, where the models need one")
    made.add_argument("--cpu", action="store_true", help="even where there is a GPU")
    return made


def check_given(words):
    """See that options handed through by a report leave an analysis what the report says it is.

    Raises:
        UserError: one is unknown or wrong, or is the report's own.
    """

    def refuse(message):
        raise UserError(f"the analysis refuses its options {shlex.join(words)}: {message}")

    made = parser()
    made.error = refuse
    made.parse_args(["data", "--model", "name=path", "--out", "folder", *words])
    for flag in {word.partition("=")[0] for word in words} & set(OF_THE_REPORT):
        refuse(f"{flag} is the report's own: it analyses the runs on the compared test set")


def parse_arguments():
    arguments = parser().parse_args()
    arguments.models = {
        name: paths.split(":") for name, paths in named("--model", arguments.model).items()
    }
    arguments.ood = {
        name: split_subset(where) for name, where in named("--ood", arguments.ood).items()
    }
    return arguments


def named(option, pairs):
    """Dict of ``NAME=VALUE`` arguments; names differ and can stand in a file's name."""
    result = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (equals and value and re.fullmatch(r"[\w.+-]+( [\w.+-]+)*", name)):
            raise UserError(f"{option} {pair}: expected NAME=..., with letters, digits and ._+-")
        if name in result:
            raise UserError(f"{option} {pair}: there is a {name} already; give each its own name")
        result[name] = value
    return result


def split_subset(where):
    folder, colon, subset = where.rpartition(":")
    if not colon:
        raise UserError(f"--ood ...={where}: expected NAME=FOLDER:SUBSET, such as {where}:test")
    return folder, subset


if __name__ == "__main__":
    run(main)
