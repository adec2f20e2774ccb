"""Analyse fairseq models on binarized data, token by token.

Runs the models teacher-forced and writes, into a folder, analysis.json (margins, energies,
calibration before and after a temperature, accuracy by frequency, gradient shares, out-of-domain
detection, robustness to noise) and a row for each target token, tokens-NAME.npz. Prints the tables
of analysis.json.
"""

import argparse
import logging
import math
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

    from ..common.files import write_json, writing
    from ..common.paths import this_command
    from ..corpora.subwords import Subwords
    from . import frequency, noise, ood
    from .calibration import calibration, with_temperature
    from .gradient import gradient_shares
    from .models import load_models, load_subset
    from .runner import Runner
    from .tables import tables
    from .tokens import MEASURES, summaries

# Options that a report gives itself: it analyses its runs, on the compared test set.
OF_THE_REPORT = ("--subset", "--model", "--out", "--ood", "--subwords")


def main():
    arguments = parser().parse_args()
    paths, arguments.ood = once("--model", arguments.model), once("--ood", arguments.ood)
    logging.disable(logging.INFO)
    warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask")
    device = "cuda" if torch.cuda.is_available() and not arguments.cpu else "cpu"

    # Wrong input is refused before any long work starts.
    task, models = load_models(paths, arguments.data, arguments.user_dir, device)
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
    count = min(arguments.noise_sentences, len(dataset))
    chosen = sorted(random.Random(arguments.seed).sample(range(len(dataset)), count))
    subwords = None
    if arguments.subwords and chosen:
        subwords = Subwords(arguments.subwords)
        noise.check_subwords(task, dataset, chosen, subwords)
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)

    runner = Runner(task, models, arguments.max_tokens, arguments.beam, device)
    columns = {model.name: runner.token_columns(model, dataset, "tokens") for model in models}
    counts = frequency.token_counts(task.target_dictionary)
    bounds = frequency.frequency_bounds(counts)
    for name, table in columns.items():
        table["frequency"] = counts[table["token"]]
        with writing(out / f"tokens-{name}.npz", "wb") as file:
            np.savez_compressed(file, **table)
    quantities = summaries(columns)
    result = {
        "command": this_command("analysis"),
        "data": arguments.data,
        "subset": arguments.subset,
        "sentences": len(dataset) - runner.left_out["tokens"],
        "sentences_left_out": runner.left_out["tokens"],
        "tokens": len(next(iter(columns.values()))["token"]),
        "measures": {
            name: {key: value for key, value in vars(measure).items() if key != "function"}
            for name, measure in MEASURES.items()
        },
        "models": {
            model.name: {
                "checkpoints": model.paths,
                "logits": model.logits_are,
                "parameters": model.parameters,
                "accuracy": table["correct"].mean(),
                "quantities": quantities[model.name],
                "by_frequency": frequency.by_frequency(table, bounds),
                "calibration": calibration(table),
                "gradient": gradient_shares(table["prob"], arguments.log_end),
            }
            for model, table in zip(models, columns.values())
        },
        "valid_subset": arguments.valid_subset if valid else None,
        "frequency_classes": frequency.describe_bounds(counts, bounds),
        "ood": ood.detections(runner, models, dataset, others, columns, arguments),
    }
    if valid:
        for model in models:
            result["models"][model.name]["temperature"] = with_temperature(
                runner, model, valid, dataset, columns[model.name]
            )
    if chosen and translates:
        result["noise"] = noise.curves(runner, models, dataset, chosen, subwords, arguments)
    result = plain(result)
    write_json(out / "analysis.json", result)
    print(f"{result['tokens']:,} tokens of {result['sentences']:,} sentences", end="")
    left_out = result["sentences_left_out"]
    print(f", {left_out} left out, too long for a model\n" if left_out else "\n")
    for table in tables(result).values():
        print(table.text("simple"))
    print(f"Written: {out / 'analysis.json'}, {', '.join(f'tokens-{m}.npz' for m in columns)}")


def valid_subset(task, arguments):
    """The dataset to fit temperatures on; ``None`` where the data have no such part."""
    if not arguments.valid_subset:
        return None
    if any(Path(arguments.data).glob(f"{arguments.valid_subset}.*")):
        return load_subset(task, arguments.data, arguments.valid_subset)
    print(f"no temperature is fitted: {arguments.data} holds no {arguments.valid_subset} subset")
    return None


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


def named_paths(text):
    """Reader of ``NAME=PATH[:PATH...]``, a name that can stand in a file's."""
    name, _, paths = text.partition("=")
    if not (paths and re.fullmatch(r"[\w.+-]+( [\w.+-]+)*", name)):
        raise ValueError
    return name, paths.split(":")


def named_subset(text):
    """Reader of ``NAME=FOLDER:SUBSET``."""
    name, (*folder, subset) = named_paths(text)
    if not folder:
        raise ValueError
    return name, (":".join(folder), subset)


def once(option, pairs):
    """Dict of named values; each has a name of its own."""
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{option}: {name} is given twice; give each its own name")
    return dict(pairs)


def log_end(text):
    """Reader of a log end."""
    if not 0 < float(text) <= 1:
        raise ValueError
    return float(text)


def parser():
    made = argparse.ArgumentParser(
        prog="python -m el_fairseq.analysis", description=__doc__, allow_abbrev=False
    )
    add, count = made.add_argument, whole_number(1)
    add("data", help="folder that fairseq-preprocess made")
    parts = "which part of it, or several as one, such as test,test1 (%(default)s)"
    add("--subset", default="test", help=parts)
    fitted_on = (
        "the part that the temperature of calibration is fitted on (%(default)s); '' for none"
    )
    add("--valid-subset", default="valid", metavar="SUBSET", help=fitted_on)
    add(
        "--model",
        type=argument(named_paths, "NAME=PATH[:PATH...], a name of letters, digits and ._+-"),
        action="append",
        required=True,
        metavar="NAME=PATH[:PATH...]",
        help="a checkpoint under a name, or several as an ensemble; once for each model",
    )
    add("--out", required=True, metavar="FOLDER", help="where to write")
    add(
        "--ood",
        type=argument(named_subset, "NAME=FOLDER:SUBSET"),
        action="append",
        default=[],
        metavar="NAME=FOLDER:SUBSET",
        help="data to tell from the subset, binarized with the same dictionaries "
        "(python -m el_fairseq.corpora.binarize); where it has no target side, sentences on "
        "both sides are judged by the model's own translations",
    )
    add(
        "--subwords",
        metavar="FILE",
        help="SentencePiece model (FILE ends in .model) or BPE codes of the data: measures "
        "accuracy and BLEU with noise in the characters of the source",
    )
    add(
        "--noise-sentences",
        type=whole_number(0),
        default=200,
        metavar="N",
        help="sentences, drawn at random, to measure noise on; 0 for no noise (%(default)s)",
    )
    end = argument(log_end, "a number in (0, 1]")
    add("--log-end", type=end, default=0.5, help="of the EL gradient (0.5)")
    add("--beam", type=count, default=5, help="for translations (%(default)s)")
    add("--bootstrap", type=count, default=200, metavar="N", help="replicates (200)")
    add("--max-tokens", type=count, default=4096, help="a batch (%(default)s)")
    add("--seed", type=int, default=1, help="of noise and bootstrap (1)")
    add("--user-dir", help="as for fairseq, where the models need one")
    add("--cpu", action="store_true", help="even where there is a GPU")
    return made


def check_given(options):
    """See that options handed through by a report leave an analysis what the report says it is.

    Raises:
        UserError: one is unknown or wrong, or is the report's own.
    """

    def refuse(message):
        raise UserError(f"the analysis refuses its options {shlex.join(options)}: {message}")

    made = parser()
    made.error = refuse
    made.parse_args(["data", "--model", "name=path", "--out", "folder", *options])
    for flag in {option.partition("=")[0] for option in options} & set(OF_THE_REPORT):
        refuse(f"{flag} is the report's own: it analyses the runs on the compared test set")


if __name__ == "__main__":
    run(main)
