"""Models going through data: the passes that the measurements are made of."""

import numpy as np
import torch
from tqdm import tqdm

from ..common.cli import UserError
from ..corpora.subwords import text_of
from . import noise
from .models import batches, options_of
from .tokens import TokenTable
from .translation import translator, with_target


class Runner:
    """Models, their task and how to go through data: what every measurement shares."""

    def __init__(self, task, models, max_tokens, beam, device):
        self.task = task
        self.models = models
        self.max_tokens = max_tokens
        self.beam = beam
        self.device = device
        self.padding = task.target_dictionary.pad()
        self.left_out = {}

    def batches(self, model, dataset, label, indices=None):
        """Batches of a dataset with a progress bar; ``left_out`` counts the sentences too long."""
        count, left_out, samples = batches(
            self.task, self.models, dataset, self.max_tokens, self.device, indices
        )
        if count == 0:
            raise UserError(f"{label}: every sentence is too long for the models")
        self.left_out[label] = len(left_out)
        name = f"{model.name}, {label}"
        return tqdm(samples, desc=name, total=count, unit="batch", leave=False, disable=None)

    def token_columns(self, model, dataset, label, translate=False, temperature=1):
        """Columns of every target token; the model's own translations are the target on demand.

        Logits are divided by the temperature.
        """
        table = TokenTable()
        own = translator(self.task, model, self.beam) if translate else None
        with torch.no_grad():
            for sample in self.batches(model, dataset, label):
                if translate:
                    sample = with_target(self.task, sample, own(sample))
                logits = model.logits(sample)
                if temperature != 1:
                    logits = logits / temperature
                table.add(logits, model.target(sample), sample["id"], self.padding)
        return table.columns()

    def noise_curve(self, model, dataset, indices, subwords, rates, seed, replicates):
        """Accuracy and BLEU at each rate of character noise, with intervals over sentences.

        BLEU is of words as the corpus has them: subwords are joined, Moses tokens stay.
        """
        language = options_of(self.task).target_lang
        own = translator(self.task, model, self.beam)
        dictionary = self.task.target_dictionary
        accuracy, bleu, sentences = [], [], []
        for rate in rates:
            noisy = noise.noisy_dataset(self.task, dataset, indices, subwords, rate, seed)
            counts, hypotheses, references = [], [], []
            with torch.no_grad():
                for sample in self.batches(model, noisy, f"noise {rate:.0%}"):
                    logits = model.logits(sample)
                    counts.append(noise.count_correct(model, sample, logits, self.padding))
                    hypotheses += [text_of(x, dictionary, subwords.symbol) for x in own(sample)]
                    references += [
                        text_of(noisy.tgt[i], dictionary, subwords.symbol) for i in sample["id"]
                    ]
            sentences.append(len(hypotheses))
            accuracy.append(noise.accuracy_of(np.concatenate(counts), replicates, seed))
            *score, signature = noise.bleu_of(hypotheses, references, language, replicates)
            bleu.append(score)
        return {
            "rates": rates,
            "sentences": sentences,
            "accuracy": with_intervals(accuracy),
            "bleu": with_intervals(bleu),
            "signature": signature,
        }

    def attack_curve(self, model, dataset, indices, strengths, seed, replicates):
        """Accuracy at each strength of the gradient-sign perturbation, with intervals."""
        counts = [[] for _ in strengths]
        for sample in self.batches(model, dataset, "gradient sign", indices):
            attacked = noise.attacked_logits(model, sample, self.padding, strengths)
            for found, (_, logits) in zip(counts, attacked):
                found.append(noise.count_correct(model, sample, logits, self.padding))
        accuracy = [noise.accuracy_of(np.concatenate(c), replicates, seed) for c in counts]
        return {"strengths": strengths, "accuracy": with_intervals(accuracy)}


def with_intervals(triples):
    """``value``, ``low`` and ``high``, lists, of a list of such triples."""
    return dict(zip(("value", "low", "high"), map(list, zip(*triples))))
