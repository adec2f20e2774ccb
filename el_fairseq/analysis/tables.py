"""The tables of an analysis, made of ``analysis.json``, for the command and the report."""

from ..common.tables import Table
from .frequency import CLASSES, SPECIAL

QUANTILES = {"5 %": "0.05", "25 %": "0.25", "median": "0.5", "75 %": "0.75", "95 %": "0.95"}
OOD_SCORES = {
    "mean_log_prob": "mean log-probability",
    "min_log_prob": "least log-probability",
    "negative_mean_energy": "mean energy",
    "negative_mean_free_energy": "mean free energy",
    "negative_mean_entropy": "mean entropy",
}


def number(value, form):
    """A number as ``format`` writes it, in a form such as ``.2%``; ``None`` as a dash; a dict of
    ``value``, ``low`` and ``high`` as ``value [low, high]``."""
    if isinstance(value, dict):
        return "{} [{}, {}]".format(*(number(value[end], form) for end in ("value", "low", "high")))
    return "\N{EN DASH}" if value is None else format(value, form)


def tables(analysis):
    """Every table of an analysis, by its name: a dict of :class:`~..common.tables.Table`."""
    models = analysis["models"]
    made = {
        "calibration": calibration(models, analysis["valid_subset"]),
        "frequency": frequency(models),
        "gradient": gradient(models),
        "measures": measures(models, analysis["measures"]),
    }
    if analysis["ood"]:
        made["ood"] = ood(analysis["ood"])
    if "noise" in analysis:
        made["noise"] = noise(analysis["noise"]["characters"])
    return made


def calibration(models, with_temperature):
    """A row for each model: accuracy, and calibration before and after temperature scaling."""

    def error_and_nll(of):
        error = {**of, "value": of["expected_calibration_error"]}
        return number(error, ".2%"), number(of["nll_nats"], ".4f")

    rows, columns = [], ["model", "accuracy", "calibration error", "nll, nats"]
    if with_temperature:
        columns += ["temperature", "error after it", "nll after it, nats"]
    for name, model in models.items():
        rows.append([name, number(model["accuracy"], ".2%"), *error_and_nll(model["calibration"])])
        if with_temperature:
            fitted = model["temperature"]
            rows[-1] += [number(fitted["temperature"], ".3f"), *error_and_nll(fitted["after"])]
    return Table("Calibration", columns, rows)


def frequency(models):
    """A row for each class of frequency and each model."""
    forms, rows = {"tokens": ",", "accuracy": ".2%", "prob": ".3f", "median_margin": ".2f"}, []
    for class_name in (*CLASSES, SPECIAL):
        for name, model in models.items():
            of = model["by_frequency"].get(class_name)
            if of:
                cells = [number(of[key], form) for key, form in forms.items()]
                rows.append([class_name, name, *cells])
    columns = ["class", "model", "tokens", "accuracy", "mean probability", "median margin"]
    return Table("Frequency of tokens in training", columns, rows, 2)


def gradient(models):
    """A row for each model: the share of well-classified tokens, and of the gradient of each loss
    that comes from them."""
    rows = [
        [name, *(number(model["gradient"][key], ".1%") for key in ("tokens", "ce", "el"))]
        for name, model in models.items()
    ]
    of_loss = [f"their share of {loss}'s gradient" for loss in ("CE", "EL")]
    return Table("Gradient", ["model", "tokens with p > 0.5", *of_loss], rows)


def measures(models, registered):
    """A row for each measure of tokens and each model: mean and quantiles."""
    rows = []
    for key, measure in registered.items():
        arrow = {True: " \N{UPWARDS ARROW}", False: " \N{DOWNWARDS ARROW}"}
        unit = f", {measure['unit']}" if measure["unit"] else ""
        title = f"{measure['title']}{unit}{arrow.get(measure['higher_is_better'], '')}"
        for name, model in models.items():
            summary = model["quantities"][key]
            values = [summary["mean"], *(summary["quantiles"][q] for q in QUANTILES.values())]
            rows.append([title, name, *(number(value, measure["form"]) for value in values)])
    return Table("Measures of tokens", ["", "model", "mean", *QUANTILES], rows, 2)


def ood(sets):
    """A row for each out-of-domain set, model and score of a sentence."""
    areas = ("auroc", "aupr", "fpr95")
    rows = [
        [set_name, name, label, *(number(by_score[key][area], ".3f") for area in areas)]
        for set_name, one in sets.items()
        for name, by_score in one["models"].items()
        for key, label in OOD_SCORES.items()
    ]
    columns = ["set", "model", "score", *map(str.upper, areas)]
    return Table("Detection of sentences out of domain", columns, rows, 3)


def noise(models):
    """A row for each rate of noise in the characters of the source, and each model."""
    rows = [
        [f"{rate:.0%}", name, number(curve["accuracy"][i], ".1%"), number(curve["bleu"][i], ".1f")]
        for i, rate in enumerate(next(iter(models.values()))["rates"])
        for name, curve in models.items()
    ]
    return Table("Noise in characters", ["noise", "model", "accuracy", "BLEU"], rows, 2)
