"""How sure a difference is: over seeds by a paired t-test, over sentences by a paired bootstrap."""

import logging
import math
import statistics
from dataclasses import dataclass

from sacrebleu.significance import PairedTest
from scipy.special import nctdtrinc
from scipy.stats import t, ttest_1samp

from .scores import bleu_metric

logging.getLogger("sacrebleu").setLevel(logging.WARNING)  # the bootstrap tells of its progress
RESAMPLINGS = 1000
LEVEL, POWER = 0.05, 0.8


@dataclass(frozen=True)
class OverSeeds:
    """A paired t-test over seeds: two-sided p, 95 % interval of the mean difference, and the
    smallest true difference that so many seeds detect with a power of 80 %."""

    mean: float
    low: float
    high: float
    p_value: float
    detectable: float


def over_seeds(differences):
    """:class:`OverSeeds` of differences, one a seed; ``None`` if all are equal or there is one."""
    if len(set(differences)) < 2:
        return None
    test = ttest_1samp(differences, 0)
    low, high = test.confidence_interval(1 - LEVEL)
    detectable = detectable_difference(statistics.stdev(differences), len(differences))
    mean = statistics.fmean(differences)
    return OverSeeds(mean, float(low), float(high), float(test.pvalue), detectable)


def detectable_difference(deviation, seeds):
    """The true mean difference that a paired t-test over seeds detects in 80 % of experiments.

    ``deviation`` is the standard deviation of the differences. From the noncentral t distribution
    (Cohen, 1988, chapter 2); a difference with the wrong sign is too rare to count.
    """
    freedom = seeds - 1
    shift = nctdtrinc(freedom, 1 - POWER, t.isf(LEVEL / 2, freedom))
    return float(shift * deviation / math.sqrt(seeds))


def bootstrap_p(baseline, system, references, language):
    """p-value by BLEU of sacreBLEU's paired bootstrap over sentences, of two translations.

    Koehn, 2004: p is the share of resampled test sets on which the difference is as far from the
    observed one as that is from zero. sacreBLEU's own random seed: the same again each time. For
    the same translation twice, for which sacreBLEU has no answer, it is 1.
    """
    if baseline == system:
        return 1.0
    metrics = {"bleu": bleu_metric(language, references=[references])}
    named = [("baseline", baseline), ("system", system)]
    _, results = PairedTest(named, metrics, None, "bs", RESAMPLINGS)()
    _, (_, resampled) = results.values()
    return resampled.p_value
