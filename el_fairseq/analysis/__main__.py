"""Analyse fairseq models on binarized data, token by token.

Runs the models teacher-forced and writes two kinds of files into a folder: analysis.json (margins,
energies, calibration before and after temperature scaling, accuracy by frequency, gradient shares,
out-of-domain detection, robustness to noise), and tokens-NAME.npz with a row for each target token.
Prints the tables of analysis.json.
"""

import logging
import math
import os
import random
import re
import warnings
from pathlib import Path

from ..common.cli import UserError, argument, command_line, needs_extra, run, whole_number

with needs_extra("scripts"):
    import numpy as np
    import torch
    from fairseq.data import LanguagePairDataset

    from ..common.files import write_json, writing
    from ..common.paths import this_command
    from ..corpora.subwords import Subwords
    from ..loss import checked_spec
    from . import frequency, noise, ood
    from .calibration import calibration, with_temperature
    from .gradient import gradient_shares
    from .models import load_models, load_subset
    from .tables import tables
    from .tokens import MEASURES, summaries

VALID = "valid"


def main():
    options = parser().parse_args()
    for option, given in (("--model", options.model), ("--ood", options.ood)):
        if len(dict(given)) < len(given):
            raise UserError(f"{option}: a name is given twice; give each its own")
    logging.disable(logging.INFO)
    warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask")
    device = "cuda" if torch.cuda.is_available() and not options.cpu else "cpu"

    # Wrong input is refused before any long work starts.
    data = options.data
    models = load_models(dict(options.model), data, options.user_dir, device, options.max_tokens)
    task = models[0].task
    dataset = load_subset(task, data, options.subset)
    others = {name: load_subset(task, *where) for name, where in options.ood}
    valid = None
    if any(Path(data).glob(f"{VALID}.*")):
        valid = load_subset(task, data, VALID)
    else:
        print(f"no temperature is fitted: {data} holds no {VALID} subset")
    chosen = []
    if options.subwords:
        if not isinstance(dataset, LanguagePairDataset):
            raise UserError("--subwords is for noise in the source: these models have no source")
        subwords = Subwords(options.subwords)
        count = min(options.noise_sentences, len(dataset))
        chosen = sorted(random.Random(noise.SEED).sample(range(len(dataset)), count))
        noise.check_subwords(task, dataset, chosen, subwords)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)

    columns, sentences = columns_of(models, dataset, "tokens")
    counts = frequency.token_counts(task.target_dictionary)
    classes = frequency.classes_of(counts)
    for name, table in columns.items():
        table["frequency"] = counts[table["token"]]
        with writing(out / f"tokens-{name}.npz", "wb") as file:
            np.savez_compressed(file, **table)
    quantities, of_models = summaries(columns), {}
    for model in models:
        table = columns[model.name]
        of_models[model.name] = of_model = {
            "checkpoints": model.paths,
            "logits": model.logits_are,
            "parameters": model.parameters,
            "accuracy": table["correct"].mean(),
            "quantities": quantities[model.name],
            "by_frequency": frequency.by_frequency(table, classes[table["token"]]),
            "calibration": calibration(table),
            "gradient": gradient_shares(table["prob"], options.log_end),
        }
        if valid:
            of_model["temperature"] = with_temperature(model, valid, dataset, table)
    result = {
        "command": this_command("analysis"),
        "data": data,
        "subset": options.subset,
        **sentences,
        "tokens": len(table["token"]),
        "measures": {name: shown for name, (_, shown) in MEASURES.items()},
        "models": of_models,
        "valid_subset": VALID if valid else None,
        "frequency_classes": frequency.describe(counts, classes),
        "ood": {},
    }
    for name, (folder, subset) in options.ood:
        of_others, sentences = columns_of(models, others[name], f"out of domain: {name}")
        detected = ood.detections(columns, of_others, options.bootstrap)
        result["ood"][name] = {"data": folder, "subset": subset, **sentences, "models": detected}
    if chosen:
        how = chosen, subwords, options.beam, options.bootstrap
        result["noise"] = {
            "sentences": len(chosen),
            "seed": noise.SEED,
            "beam": options.beam,
            "characters": {model.name: noise.curve(model, dataset, *how) for model in models},
        }
    result = plain(result)
    write_json(out / "analysis.json", result)
    left_out = result["sentences_left_out"]
    left_out = f", {left_out} left out, too long for a model" if left_out else ""
    print(f"{result['tokens']:,} tokens of {result['sentences']:,} sentences{left_out}\n")
    for table in tables(result).values():
        print(table.text("simple"))
    print(f"Written: {out / 'analysis.json'}, {', '.join(f'tokens-{m}.npz' for m in columns)}")


def columns_of(models, dataset, label):
    """Token columns by the models' names; how many sentences were analysed, how many too long."""
    columns = {model.name: model.token_columns(dataset, label) for model in models}
    count = len(np.unique(columns[models[0].name]["sentence"]))
    return columns, {"sentences": count, "sentences_left_out": len(dataset) - count}


def plain(value):
    """The value for JSON: floats have seven digits, and ``None`` replaces those not finite."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    if isinstance(value, str):  # a path that is not UTF-8
        return os.fsencode(value).decode("utf-8", "replace")
    return value


def named(text):
    """Reader of ``NAME=PART[:PART...]``; the name becomes part of a file name."""
    name, _, parts = text.partition("=")
    if not (parts and re.fullmatch(r"[\w.+-]+( [\w.+-]+)*", name)):
        raise ValueError
    return name, parts.split(":")


def parser(of_report=False):
    """The options, or those of how to analyse alone, which a report passes on."""
    name = "options of a report's analysis" if of_report else "python -m el_fairseq.analysis"
    made = command_line(name, __doc__)
    add, count = made.add_argument, whole_number(1)
    drawn = "with --subwords: random sentences to measure noise on; 0 for no noise (%(default)s)"
    add("--noise-sentences", type=whole_number(0), default=200, metavar="N", help=drawn)
    end = argument(lambda text: checked_spec(float(text)).log_end, "a number in (0, 1]")
    add("--log-end", type=end, default=0.5, help="log end of the EL gradient (0.5)")
    add("--beam", type=count, default=5, help="beam size of translations (%(default)s)")
    add("--bootstrap", type=count, default=200, metavar="N", help="bootstrap replicates (200)")
    add("--max-tokens", type=count, default=4096, help="tokens in a batch (%(default)s)")
    add("--user-dir", help="as for fairseq, if the models need one")
    add("--cpu", action="store_true", help="use the CPU, even if there is a GPU")
    if of_report:
        return made
    add("data", help="folder that fairseq-preprocess made")
    parts = "which part of it, or several as one, such as test,test1 (%(default)s)"
    add("--subset", default="test", help=parts)
    form = "NAME=PATH[:PATH...]"
    model = argument(named, f"{form}, a name of letters, digits and ._+-")
    several = "a name and its checkpoint, or several as an ensemble; once for each model"
    add("--model", type=model, action="append", required=True, metavar=form, help=several)
    add("--out", required=True, metavar="FOLDER", help="where to write")
    form = "NAME=FOLDER:SUBSET"
    others = "data to distinguish from the subset, binarized with the same dictionaries "
    others += "(python -m el_fairseq.corpora.binarize)"
    other = argument(named, form, lambda given: len(given[1]) == 2)
    add("--ood", type=other, action="append", default=[], metavar=form, help=others)
    noisy = "SentencePiece model (FILE ends in .model) or BPE codes of the data: measures accuracy "
    noisy += "and BLEU with noise in the characters of the source"
    add("--subwords", metavar="FILE", help=noisy)
    return made


if __name__ == "__main__":
    run(main)
