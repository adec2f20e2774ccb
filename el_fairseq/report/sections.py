"""What the report says: sections of sentences, tables and pictures, from results and analysis."""

import shlex
import statistics
from dataclasses import dataclass, field
from typing import Callable, List, Tuple

from ..experiments.comparison import FEWEST_WORDS, RESAMPLINGS, bootstrap_p, mean_and_deviation
from ..runs import training_log
from . import figures
from .translations import Translations, baseline_of, most_different

SCORE_NAMES = {
    "mean_log_prob": "mean log-probability",
    "min_log_prob": "least log-probability",
    "negative_mean_energy": "mean energy",
    "negative_mean_free_energy": "mean free energy",
    "negative_mean_entropy": "mean entropy",
}
FREQUENCY_NAMES = {"many": "many", "medium": "medium", "few": "few", "special": "sentence end"}

# Columns of tables that hold words, not numbers.
WORDS = ("", "run", "loss", "model", "class", "set", "score", "what it is", "judged by")
# What the texts are that el_fairseq.report.of_runs makes.
TEXTS = {
    "shuffled words": "the test set with the words of each source sentence in random order",
    "everyday sentences": "sentences of daily life, written by hand for this",
    "everyday sentences in French": "those sentences in a language the models never saw",
    "everyday sentences in German": "those sentences in a language the models never saw",
}


@dataclass
class Picture:
    """A drawing, what it shows (for those who cannot see it), and what to see in it."""

    name: str
    shows: str
    see: str
    draw: Callable


@dataclass
class Table:
    """A header and rows of text, and a note below; ``folded`` away in the page on demand."""

    header: Tuple[str, ...]
    rows: List[Tuple[str, ...]]
    note: str = ""
    folded: bool = False

    def text(self, column):
        """Whether a column (from 0) is of words rather than numbers."""
        return self.header[column] in WORDS


@dataclass
class Section:
    title: str
    says: str
    commands: List[str]
    tables: List[Table] = field(default_factory=list)
    pictures: List[Picture] = field(default_factory=list)
    translations: List[dict] = field(default_factory=list)

    @property
    def name(self):
        """Name of the section's place in the page."""
        return self.title.lower().replace(" ", "-").replace(",", "")


def each(form, values):
    """A value of each model in words: ``1.20 (CE), 1.50 (EL)``."""
    return ", ".join(f"{form.format(value)} ({name})" for name, value in values.items())


def of_runs(folder, records):
    """Sections from a results.json: scores, curves, translations; and the points they make."""
    translations = Translations(folder, records)
    scores, points = _scores(folder, records, translations)
    return [scores, _curves(folder, records), _translations(folder, records, translations)], points


def _scores(folder, records, translations):
    names = _names(records)
    rows, points, differences = [], [], {}
    for record in records:
        row = [record["run"], record["loss"], f"{record['bleu']:.2f}", f"{record['chrf']:.2f}"]
        baseline = baseline_of(record, records)
        if baseline is None:
            row += ["", "", ""]
        else:
            p_value = bootstrap_p(
                translations.hypotheses[baseline["run"]],
                translations.hypotheses[record["run"]],
                translations.reference,
            )
            difference = record["bleu"] - baseline["bleu"]
            differences.setdefault(record["loss"], []).append(difference)
            row += [
                f"{difference:+.2f}",
                f"{record['chrf'] - baseline['chrf']:+.2f}",
                f"{p_value:.3f}",
            ]
            says = "significant at 5 %" if p_value < 0.05 else "not significant at 5 %"
            points.append(
                f"{names[record['run']]} against {names[baseline['run']]}: {difference:+.2f} BLEU, "
                f"{says} (p = {p_value:.3f})."
            )
        rows.append((*row, f"{record['valid_nll']:.3f}", f"{record['updates']:,}"))
    if len(points) > len(differences):
        # Several seeds: their mean says more than each.
        points = [
            f"{loss} against CE, mean of {len(found)} seeds: {statistics.fmean(found):+.2f} BLEU "
            f"(from {min(found):+.2f} to {max(found):+.2f})."
            for loss, found in differences.items()
        ]
    signatures = sorted({r[key] for r in records for key in ("bleu_signature", "chrf_signature")})
    runs = Table(
        (
            *("run", "loss", "BLEU", "chrF", "ΔBLEU", "ΔchrF", "p (BLEU)"),
            *("valid. nll, bits", "updates"),
        ),
        rows,
        "Differences are to the cross-entropy run with the same seed. " + "; ".join(signatures),
    )
    section = Section(
        "Scores",
        f"{len(translations.reference):,} test sentences, translated by beam search and scored on "
        "detokenized text by sacreBLEU. p is the chance of a difference as large as this one by "
        "the choice of test sentences alone, by sacreBLEU's paired bootstrap "
        f"({RESAMPLINGS:,} resamples). It says nothing of other seeds.",
        [_evaluate_command(folder, record) for record in records],
        tables=[*_means(records), runs],
    )
    return section, points


def _means(records):
    """A table of means over seeds, where a loss was trained with several."""
    by_loss = {}
    for record in records:
        by_loss.setdefault(record["loss"], []).append(record)
    if len(by_loss) == len(records):
        return []
    rows = [
        (
            loss,
            f"{len(found)}",
            *(mean_and_deviation([r[key] for r in found]) for key in ("bleu", "chrf")),
        )
        for loss, found in by_loss.items()
    ]
    return [Table(("loss", "seeds", "BLEU", "chrF"), rows, "Mean ± standard deviation over seeds.")]


def _names(records):
    """What to call each run: by its loss where that says which one it is, else by its folder."""
    losses = [record["loss"] for record in records]
    return {
        record["run"]: record["loss"] if losses.count(record["loss"]) == 1 else record["run"]
        for record in records
    }


def _evaluate_command(folder, record):
    words = ["bash", "scripts/evaluate.sh", f"{folder}/{record['run']}"]
    _, _, averaged = record["evaluation"].partition("-averaged")
    words += ["--last", averaged] if averaged else ["--best"]
    return shlex.join(words)


def _train_command(folder, record):
    words = ["bash", "scripts/train.sh", record["experiment"], record["criterion"]]
    words += [str(record["seed"]), "--data", record["data"], "--out", f"{folder}/{record['run']}"]
    return shlex.join(words)


def _curves(folder, records):
    runs = [
        (record["loss"], training_log.epochs(folder / record["run"] / "train.log"))
        for record in records
    ]
    names = _names(records)
    last = {names[record["run"]]: record["valid_nll"] for record in records}
    accuracy = {names[record["run"]]: record["valid_accuracy"] for record in records}
    return Section(
        "Curves",
        "Loss and accuracy as fairseq logged them, once an epoch. The negative log-likelihood is "
        "that of the right tokens, without label smoothing or bonus, so the curves of both losses "
        "compare. Training curves are averages over an epoch, with dropout: they lie behind "
        "validation at first.",
        [_train_command(folder, record) for record in records],
        pictures=[
            Picture(
                "curves-train",
                "negative log-likelihood on the training set over updates",
                "How well each run fits the text it is trained on.",
                figures.curves(runs, "train", "nll_loss", "training nll (bits a token)"),
            ),
            Picture(
                "curves-valid",
                "negative log-likelihood on the validation set over updates",
                f"Lower is better; at the end: {each('{:.3f}', last)}. The encouraging loss asks "
                "for sharper predictions, and a wrong one then costs more likelihood: a higher "
                "value here can go with a better BLEU.",
                figures.curves(runs, "valid", "nll_loss", "validation nll (bits a token)"),
            ),
            Picture(
                "curves-accuracy",
                "accuracy on the validation set over updates",
                "Share of tokens ranked first, given the right beginning of the sentence; at the "
                f"end: {each('{:.1f} %', accuracy)}.",
                figures.curves(runs, "valid", "accuracy", "validation accuracy (%)"),
            ),
        ],
    )


def _translations(folder, records, translations):
    first_of_loss = {}
    for record in records:
        first_of_loss.setdefault(record["loss"], record["run"])
    names = {run: loss for loss, run in first_of_loss.items()}
    found = most_different(translations, names)
    wins = {loss: sum(_best(sentence) == loss for sentence in found) for loss in first_of_loss}
    return Section(
        "Translations",
        f"The {len(found)} test sentences of at least {FEWEST_WORDS} words on which the "
        "runs differ most, by the difference of their sentence chrF, which stands beside each. "
        f"Ahead in: {each('{}', wins)}. Chosen for being different, so they show the kinds of "
        "differences, not who is better.",
        [shlex.join(["python", "-m", "el_fairseq.report", str(folder)])],
        translations=found,
    )


def _best(sentence):
    return max(sentence["translations"], key=lambda row: row[2])[0]


def of_analysis(analysis):
    """Sections from an analysis.json, and the points they make."""
    models = analysis["models"]
    sections = [_margins(models), _energies(models), _gradient(models)]
    sections += [_calibration(models), _frequency(analysis)]
    if analysis["ood"]:
        sections.append(_ood(analysis))
    if "noise" in analysis:
        sections.append(_noise(analysis["noise"]))
    for section in sections:
        section.commands = [analysis["command"]]
    points = [
        f"Accuracy on {analysis['tokens']:,} tokens of {analysis['sentences']:,} sentences: "
        f"{each('{:.2%}', {name: model['accuracy'] for name, model in models.items()})}.",
        f"Median margin of the right token, in logits: {each('{:.2f}', _of(models, 'margin'))}.",
        "Calibration error (0 is a model that is right as often as it says): "
        f"{each('{:.2%}', _calibration_errors(models))}.",
    ]
    return sections, points


def _of(models, quantity, statistic="median"):
    return {name: model["quantities"][quantity][statistic] for name, model in models.items()}


def _statistics(models, quantity, label):
    rows = []
    for name, model in models.items():
        found = model["quantities"][quantity]
        quantiles = [found["quantiles"][q] for q in ("0.05", "0.25", "0.5", "0.75", "0.95")]
        values = [found["mean"], *quantiles]
        rows.append((label, name, *(f"{value:.3f}" for value in values)))
    return rows


_STATISTICS = ("", "model", "mean", "5 %", "25 %", "median", "75 %", "95 %")


def _margins(models):
    right = {name: model["accuracy"] for name, model in models.items()}
    relative = _of(models, "relative_margin")
    return Section(
        "Margins",
        "The margin of a token is its logit less the best other one: above 0 the model has the "
        "token right, and the further, the safer. Logits of different models may differ in scale, "
        "so the margin is also given in standard deviations of the logits it is taken from.",
        [],
        tables=[
            Table(
                _STATISTICS,
                _statistics(models, "margin", "margin, logits")
                + _statistics(models, "relative_margin", "margin, standard deviations"),
            )
        ],
        pictures=[
            Picture(
                "margins",
                "histogram of margins",
                "Tokens right of the line are predicted right: "
                f"{each('{:.1%}', right)}. More weight far to the right is more room between the "
                "right token and its rivals.",
                figures.histogram(models, "margin", "margin (logits)", zero="right from here"),
            ),
            Picture(
                "margins-relative",
                "histogram of margins relative to the spread of the logits",
                f"The same on a common scale; medians: {each('{:.2f}', relative)}. What differs "
                "on the left but not here is scale alone.",
                figures.histogram(
                    models,
                    "relative_margin",
                    "margin (standard deviations of the logits)",
                    zero="right from here",
                ),
            ),
        ],
    )


def _energies(models):
    own = all(model["logits"] == "the network's own" for model in models.values())
    caution = "" if own else " Here: " + "; ".join(f"{n}: {m['logits']}" for n, m in models.items())
    return Section(
        "Energies",
        "The energy of a right token is minus its logit. Logits are free up to a constant at each "
        "position, so raw energies of two models compare with caution. With the free energy, "
        "minus the logsumexp of all logits, taken off, the energy is the token's negative "
        f"log-probability, which has no such freedom.{caution}",
        [],
        tables=[
            Table(
                _STATISTICS,
                _statistics(models, "energy", "energy, raw")
                + _statistics(models, "free_energy", "free energy")
                + _negated(_statistics(models, "log_prob", "energy - free energy")),
            )
        ],
        pictures=[
            Picture(
                "energies",
                "histogram of raw energies",
                "Further left is lower energy on the reference, what the paper says EL brings; "
                f"means: {each('{:.2f}', _of(models, 'energy', 'mean'))}.",
                figures.histogram(models, "energy", "raw energy -f(x)[y] (logits)"),
            ),
            Picture(
                "energies-relative",
                "histogram of energies with the free energy taken off",
                "The same without the free constant, on a logarithmic scale: the bump at 0 are "
                "tokens the model is sure of, the tail on the right those that surprised it.",
                figures.histogram(
                    models, "log_prob", "energy - free energy = -log p (nats)", sign=-1, log=True
                ),
            ),
        ],
    )


def _negated(rows):
    # Quantiles change order with the sign.
    return [
        (label, name, *(_minus(v) for v in (mean, *reversed(quantiles))))
        for label, name, mean, *quantiles in rows
    ]


def _minus(number):
    return f"{-float(number) or 0.0:.3f}"


def _gradient(models):
    gradients = {name: model["gradient"] for name, model in models.items()}
    log_end = next(iter(gradients.values()))["log_end"]
    name, last = list(models.items())[-1]
    table = last["by_target_probability"]
    bins = [f"{low:.1f}" for low in table["bin_edges"][:-1]]
    return Section(
        "Gradient",
        "Where the two losses look. For every token the size of the gradient in the logits "
        "follows from the probability of the right token, in closed form, for either loss, "
        f"without label smoothing (EL with log end {log_end}). Well-classified is p > 0.5.",
        [],
        tables=[
            Table(
                ("model", "tokens with p > 0.5", "their gradient, CE", "their gradient, EL"),
                [
                    (name, f"{g['tokens']:.1%}", f"{g['ce']:.1%}", f"{g['el']:.1%}")
                    for name, g in gradients.items()
                ],
            )
        ],
        pictures=[
            Picture(
                "gradient",
                "share of the gradient by probability of the right token",
                f"At the predictions of {name}: each pair of bars is the share of the whole "
                "gradient that comes from tokens of that probability. EL moves weight from the "
                "left to the right, to what is already learnt.",
                figures.bars(
                    bins,
                    {"CE": table["gradient_ce"], "EL": table["gradient_el"]},
                    "share of the gradient",
                    "probability of the right token, from",
                ),
            )
        ],
    )


def _calibration_errors(models):
    return {n: m["calibration"]["expected_calibration_error"] for n, m in models.items()}


def _calibration(models):
    return Section(
        "Calibration",
        "Is a model right as often as it says? Tokens are sorted by the probability of the "
        "model's first choice into 15 bins of equal width; the expected calibration error is the "
        "mean distance between that probability and the accuracy of the bin.",
        [],
        tables=[
            Table(
                ("model", "calibration error", "nll, nats", "accuracy"),
                [
                    (
                        name,
                        f"{model['calibration']['expected_calibration_error']:.2%}",
                        f"{model['calibration']['nll_nats']:.4f}",
                        f"{model['accuracy']:.2%}",
                    )
                    for name, model in models.items()
                ],
            )
        ],
        pictures=[
            Picture(
                "reliability",
                "reliability diagram",
                "Above the diagonal a model is too careful (label smoothing asks for that), below "
                "it is too sure. The nearer, the better its probabilities.",
                figures.reliability(models),
            ),
            Picture(
                "confidence",
                "share of tokens by probability of the first choice",
                "How sure the models are: the right end is where they hardly doubt.",
                figures.confidence(models),
            ),
        ],
    )


def _frequency(analysis):
    models, classes = analysis["models"], analysis["frequency_classes"]
    names = [name for name in FREQUENCY_NAMES if any(name in _rows(m) for m in models.values())]
    shown = [FREQUENCY_NAMES[name] for name in names]
    rows = [
        (
            FREQUENCY_NAMES[name],
            model_name,
            f"{_rows(model)[name]['tokens']:,}",
            f"{_rows(model)[name]['accuracy']:.2%}",
            f"{_rows(model)[name]['prob']:.3f}",
            f"{_rows(model)[name]['median_margin']:.2f}",
        )
        for name in names
        for model_name, model in models.items()
    ]
    bounds = "; ".join(
        f"{name}: {found['least_count']:,} to {found['greatest_count']:,} times, "
        f"{found['entries']:,} entries"
        for name, found in classes.items()
        if found["entries"]
    )
    return Section(
        "Frequency",
        "Tokens by how often training saw them. Entries of the dictionary are sorted by their "
        "count and cut where a third and two thirds of all training tokens are reached. With a "
        "joined dictionary the counts are of both languages. The end of a sentence has no count "
        "in fairseq's dictionaries and stands apart.",
        [],
        tables=[
            Table(
                ("class", "model", "tokens", "accuracy", "mean p", "median margin"),
                rows,
                f"Seen in training: {bounds}.",
            )
        ],
        pictures=[
            Picture(
                "frequency",
                "accuracy by training frequency",
                "Rare tokens are on the right of the three classes. Compare the models within a "
                "class: a loss that helps only frequent tokens would show here.",
                figures.bars(
                    shown,
                    {
                        name: [_rows(model)[key]["accuracy"] for key in names]
                        for name, model in models.items()
                    },
                    "accuracy",
                ),
            )
        ],
    )


def _rows(model):
    return model["by_frequency"]


def _ood(analysis):
    sets = analysis["ood"]
    rows, areas, pictures, described = [], [], [], []
    for set_name, found in sets.items():
        judged = {"reference": "references", "translation": "own translations"}[found["target"]]
        what = TEXTS.get(set_name, found["data"])
        described.append((set_name, what, f"{found['sentences']:,}", judged))
        best = {}
        for model, scores in found["models"].items():
            for score, measured in scores.items():
                rows.append(
                    (
                        set_name,
                        model,
                        SCORE_NAMES[score],
                        *(_with_interval(measured[key]) for key in ("auroc", "aupr", "fpr95")),
                    )
                )
            best[model] = max(scores.values(), key=lambda m: m["auroc"]["value"])["auroc"]["value"]
        areas += [
            (
                set_name,
                label,
                *(_with_interval(scores[key]["auroc"]) for scores in found["models"].values()),
            )
            for key, label in SCORE_NAMES.items()
        ]
        pictures.append(
            Picture(
                f"roc-{len(pictures) + 1}",
                f"ROC curves for {set_name}",
                f"{set_name[0].upper()}{set_name[1:]}, by the mean log-probability of a sentence's "
                "tokens. Nearer to the upper left corner is better, the diagonal is chance. AUROC "
                f"of each model's best score: {each('{:.3f}', best)}.",
                figures.roc(found["models"], "mean_log_prob"),
            )
        )
    return Section(
        "Out of domain",
        "Can sentences of another kind be told from the test set by what the model says of them? "
        "In-domain sentences are the positives. AUROC is the chance that an in-domain sentence "
        "scores better than another; FPR95 the share of others let through where 95 % of the "
        "in-domain ones are, lower is better; AUPR depends on how many of each there are. In "
        "brackets: 95 % intervals of a bootstrap over sentences.",
        [],
        tables=[
            Table(("set", "what it is", "sentences", "judged by"), described),
            Table(("set", "score", *(f"AUROC, {model}" for model in analysis["models"])), areas),
            Table(("set", "model", "score", "AUROC", "AUPR", "FPR95"), rows, folded=True),
        ],
        pictures=pictures,
    )


def _with_interval(measured):
    return f"{measured['value']:.3f} [{measured['low']:.3f}, {measured['high']:.3f}]"


def _noise(noise):
    pictures, tables = [], []
    if "characters" in noise:
        models = noise["characters"]
        found = next(iter(models.values()))
        for quantity, label, see in (
            ("accuracy", "accuracy", "Accuracy given the right beginning of the sentence."),
            ("bleu", "BLEU", f"BLEU of translations with beam {noise['beam']}."),
        ):
            pictures.append(
                Picture(
                    f"noise-{quantity}",
                    f"{label} by share of characters with noise",
                    f"{see} A flatter curve stands noise better. Left at {found['rates'][-1]:.0%}, "
                    f"of the value without noise: {each('{:.0%}', _kept(models, quantity))}.",
                    figures.against_noise(
                        models, "rates", quantity, label, "characters with noise in the source"
                    ),
                )
            )
        header = (f"{label}, {name}" for label in ("accuracy", "BLEU") for name in models)
        rows = [
            (
                f"{rate:.0%}",
                *(f"{curve['accuracy'][i]:.2%}" for curve in models.values()),
                *(f"{curve['bleu'][i]:.2f}" for curve in models.values()),
            )
            for i, rate in enumerate(found["rates"])
        ]
        tables.append(Table(("noise", *header), rows, found["signature"]))
    if "gradient_sign" in noise:
        models = noise["gradient_sign"]
        pictures.append(
            Picture(
                "noise-gradient",
                "accuracy by strength of a gradient-sign perturbation",
                "Accuracy when every value of the source embeddings moves a step in the direction "
                "that hurts the model most. Each model is attacked by its own gradient. Left at "
                "the largest step, of the value without: "
                f"{each('{:.0%}', _kept(models, 'accuracy'))}.",
                figures.against_noise(
                    models,
                    "strengths",
                    "accuracy",
                    "accuracy",
                    "step (standard deviations of the embeddings)",
                ),
            )
        )
    return Section(
        "Noise",
        f"How the models stand a damaged source, on {noise['sentences']:,} test sentences drawn "
        "at random. Characters are dropped, doubled or swapped with the next, each as often.",
        [],
        tables=tables,
        pictures=pictures,
    )


def _kept(models, quantity):
    return {
        name: found[quantity][-1] / max(found[quantity][0], 1e-9) for name, found in models.items()
    }
