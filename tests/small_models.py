"""Models of a few hundred parameters, a batch for them, and the criterions to compare."""

import copy
from argparse import Namespace

import torch
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
from fairseq.data import Dictionary
from fairseq.models.transformer import TransformerModel, base_architecture
from fairseq.models.transformer_lm import TransformerLanguageModel, base_lm_architecture
from sizes import transformer

from el_fairseq.criterion import EncouragingLossCriterion, EncouragingLossCriterionConfig

DICTIONARY = Dictionary()
for number in range(17):  # each rarer than the one before
    DICTIONARY.add_symbol(f"word{number}", n=1000 // (number + 1))
SIZE, PAD = len(DICTIONARY), DICTIONARY.pad()
TRANSFORMER = transformer(8)


class Task:
    """As much of a fairseq task as criterions and models look at."""

    target_dictionary = source_dictionary = DICTIONARY

    def train_step(self, sample, model, criterion, optimizer, update_num, ignore_grad=False):
        model.train()
        return criterion(model, sample)


def built(model, architecture, **options):
    torch.manual_seed(1)
    args = Namespace(dropout=0.0, max_target_positions=64, **TRANSFORMER, **options)
    architecture(args)
    return model.build_model(args, Task()).double()


def translation_model(**options):
    return built(TransformerModel, base_architecture, max_source_positions=64, **options)


def language_model(**options):
    options = {"tokens_per_sample": 64, **options}
    return built(TransformerLanguageModel, base_lm_architecture, **options)


def sample(language_modeling=False):
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(4, SIZE, (3, 6), generator=generator)
    target = torch.randint(4, SIZE, (3, 6), generator=generator)
    target[1, 4:] = PAD
    net_input = {"src_tokens": tokens, "src_lengths": torch.tensor([6, 6, 6])}
    if not language_modeling:
        # Stock fairseq's models return NaN where padding comes first.
        start = torch.full((len(target), 1), DICTIONARY.eos())
        net_input["prev_output_tokens"] = torch.cat([start, target[:, :-1]], 1)
    return {"net_input": net_input, "target": target, "ntokens": int(target.ne(PAD).sum())}


def criterion(task=None, label_smoothing=0.1, **options):
    cfg = EncouragingLossCriterionConfig(
        label_smoothing=label_smoothing, sentence_avg=False, **options
    )
    return EncouragingLossCriterion(cfg, task or Task())


def cross_entropy(label_smoothing=0.1, **options):
    return LabelSmoothedCrossEntropyCriterion(Task(), False, label_smoothing, **options)


def train_once(criterion, model, sample, reduce=True):
    """Logging output (numbers), loss and gradients of one training step."""
    model = copy.deepcopy(model).train()
    loss, sample_size, log = criterion(model, sample, reduce=reduce)
    loss.sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    log = {k: v if torch.is_tensor(v) else torch.tensor(v) for k, v in log.items()}
    return {"loss": loss.detach(), "size": sample_size, "log": log, "gradients": gradients}
