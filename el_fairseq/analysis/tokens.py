"""What a model says of every target token, teacher-forced, batch by batch."""

import numpy as np
import torch

# Rows of logits worked on at a time on a CPU: few enough to stay in cache, with any vocabulary.
CPU_BLOCK_ELEMENTS = 1 << 19


def token_columns(logits, target, ignore_index):
    """Per-token quantities of logits, in float32 (float64 for float64 logits).

    Args:
        logits: (..., V), floating point; float16 and bfloat16 are computed in float32. A row may
            hold ``-inf`` for classes that are ruled out.
        target: (...), class indices, or ``ignore_index`` for positions to leave out.

    Returns:
        A dict of tensors (N,), N the number of targets that are not ignored, in row order:

        - ``log_prob``: of the target, in nats;
        - ``rank``: 1 + the number of classes with a higher logit than the target; 1 is right;
        - ``entropy``: of the prediction, in nats;
        - ``energy``: ``-f(x)[y]``, and ``free_energy``: ``-logsumexp f(x)``, in logits. Their
          difference is ``-log_prob``;
        - ``margin``: ``f(x)[y] - max over the other classes``, in logits;
        - ``logit_std``: standard deviation of the row's (finite) logits, by which margins and
          energies of models with logits of different scale are compared.
    """
    classes = logits.size(-1)
    logits, target = logits.reshape(-1, classes), target.reshape(-1)
    rows = (target != ignore_index).nonzero().squeeze(1)
    blocks = [
        _columns_of_block(logits[kept], target[kept]) for kept in rows.split(rows_at_a_time(logits))
    ]
    return {name: torch.cat([columns[name] for columns in blocks]) for name in blocks[0]}


def rows_at_a_time(logits):
    """How many rows of logits (N, V) to work on at a time: all on a GPU, few on a CPU."""
    if logits.is_cuda:
        return len(logits)
    return max(1, CPU_BLOCK_ELEMENTS // logits.size(-1))


def _columns_of_block(logits, target):
    # The block is a copy, so it can be worked on in place.
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    index = target.unsqueeze(1)
    mean, std = _mean_and_std(logits)
    # From here on the mean of each row is taken off; it is put back where it matters.
    logits -= mean
    of_target = logits.gather(1, index)
    rank = 1 + (logits > of_target).sum(1)
    best_other = logits.scatter_(1, index, -np.inf).amax(1, keepdim=True)
    logits.scatter_(1, index, of_target)
    best = torch.maximum(of_target, best_other)
    logits -= best
    weights = logits.exp()
    total = weights.sum(1, keepdim=True)
    log_total = total.log()
    # 0 * -inf is NaN: a class that is ruled out adds nothing to the entropy.
    expected = weights.mul_(logits.clamp_(min=torch.finfo(logits.dtype).min)).sum(1, keepdim=True)
    log_sum_exp = best + log_total
    columns = {
        "log_prob": of_target - log_sum_exp,
        "rank": rank,
        "entropy": log_total - expected / total,
        "energy": -(of_target + mean),
        "free_energy": -(log_sum_exp + mean),
        "margin": of_target - best_other,
        "logit_std": std,
    }
    return {name: column.reshape(-1) for name, column in columns.items()}


def _mean_and_std(logits):
    mean = logits.mean(1, keepdim=True)
    if not mean.isfinite().all():
        finite = logits.isfinite()
        count = finite.sum(1, keepdim=True)
        kept = logits.masked_fill(~finite, 0)
        mean = kept.sum(1, keepdim=True) / count
        squares = (kept - mean).square().masked_fill(~finite, 0).sum(1, keepdim=True)
        return mean, (squares / count).sqrt()
    return mean, logits.sub(mean).norm(dim=1, keepdim=True) / logits.size(1) ** 0.5


class TokenTable:
    """Columns of all target tokens, gathered batch by batch; nothing of size tokens x V."""

    def __init__(self):
        self._batches = []

    def add(self, logits, target, sentence, padding):
        """Add a batch: ``logits`` (B, T, V), ``target`` (B, T), ``sentence`` (B,) their numbers."""
        columns = token_columns(logits, target, padding)
        kept = target != padding
        columns["sentence"] = sentence.to(target).unsqueeze(1).expand_as(target)[kept]
        columns["position"] = (kept.cumsum(1) - 1)[kept]
        columns["token"] = target[kept]
        self._batches.append({name: column.cpu().numpy() for name, column in columns.items()})

    def columns(self):
        """All columns as numpy arrays, in the order of sentences and positions."""
        joined = {
            name: np.concatenate([batch[name] for batch in self._batches])
            for name in self._batches[0]
        }
        order = np.lexsort((joined["position"], joined["sentence"]))
        columns = {name: column[order] for name, column in joined.items()}
        columns["prob"] = np.exp(columns["log_prob"])
        columns["correct"] = columns["rank"] == 1
        return columns


def top_log_prob(columns):
    """Log-probability of the model's own first choice, from the target's and its margin."""
    return columns["log_prob"] - np.minimum(columns["margin"], 0)
