"""The criterion ``encouraging_loss`` for fairseq."""

from dataclasses import dataclass, field

import torch

try:
    import fairseq  # noqa: F401
except Exception as error:  # stock fairseq fails with a ValueError on Python 3.11 and later
    raise ImportError(
        "el_fairseq.criterion needs fairseq, which does not import here "
        f"({type(error).__name__}: {error}); install one: pip install ve-fairseq==0.12.3 "
        "(Python 3.11 and 3.12) or fairseq==0.12.2 (Python 3.8). The plain loss works without it."
    ) from error

from fairseq.criterions import register_criterion
from fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterion,
    LabelSmoothedCrossEntropyCriterionConfig,
)
from fairseq.dataclass import ChoiceEnum
from fairseq.logging import metrics

from .fairseq_compat import (
    check_fusible,
    check_served,
    is_plain_transformer,
    layers_of,
    predicts_by_softmax,
)
from .loss import BASE_LOSSES, checked_spec
from .ops.function import loss_of


def option(default, help):
    return field(default=default, metadata={"help": help})


@dataclass
class EncouragingLossCriterionConfig(LabelSmoothedCrossEntropyCriterionConfig):
    log_end: float = option(
        0.5,
        "probability in (0, 1] up to which the bonus is log(1-p); from there on it is the tangent. "
        "0.5 is safe everywhere, 0.75 is for tasks where the model gets most tokens right, 1 is "
        "the normal bonus, unbounded. The loss may go below zero: to -1.69 nats (-2.44 bits) a "
        "token at 0.5, to -11.5 (-16.6) at 1",
    )
    bonus_start: float = option(
        0.0,
        "no bonus below this probability, which is below log_end (aggressive bonus): 0 encourages "
        "every token, 0.5 only tokens that are already right",
    )
    bonus_weight: float = option(
        1.0,
        "factor of the bonus, 0 or more: 1 is the paper's, 0 is label_smoothed_cross_entropy",
    )
    bonus_delay_updates: int = option(
        0, "no bonus before this many updates, for tasks whose model starts at low accuracy"
    )
    bonus_warmup_updates: int = option(
        0, "after the delay, raise the bonus linearly from 0 over this many updates"
    )
    class_weight_power: float = option(
        0.0,
        "weigh each class by its count in the target dictionary to the power of minus this, 1 on "
        "average over the tokens: 0 weighs all equally, 0.5 is mild, 1 the inverse frequency",
    )
    class_weight_smoothing: float = option(
        10.0,
        "more than 0, added to every count first, so that the rarest classes do not dominate",
    )
    class_weight_delay_updates: int = option(
        0, "no class weights before this many updates (deferred re-weighting, in two stages)"
    )
    base_loss: ChoiceEnum(BASE_LOSSES) = option(  # noqa: RUF009
        "ce",
        "what the bonus mirrors: ce, the cross-entropy, or mse, the mean squared error of the "
        "probabilities (without label smoothing and bonus start)",
    )
    fused_projection: bool = option(
        False,
        "project to the vocabulary and compute the loss block by block, without storing all "
        "logits: for Transformers whose batch is limited by memory",
    )
    no_inplace: bool = option(
        False,
        "keep the logits, for hooks that read them. Without it, the gradient overwrites them in "
        "trainings of fairseq's own Transformers (not in subclasses)",
    )


@register_criterion("encouraging_loss", dataclass=EncouragingLossCriterionConfig)
class EncouragingLossCriterion(LabelSmoothedCrossEntropyCriterion):
    """fairseq's ``label_smoothed_cross_entropy`` plus the bonus of arXiv 2110.06537.

    Everything but the loss itself is inherited: label smoothing in fairseq's convention
    (``q_y = 1 - eps`` and ``eps / (V - 1)`` elsewhere), sample sizes, and the logged loss,
    nll_loss, ppl (in bits) and accuracy. With a delay or warm-up the current weight of the bonus is
    logged, too. The lower bound of the loss is that of :func:`el_fairseq.encouraging_loss`.
    ``cfg`` holds the options of :class:`EncouragingLossCriterionConfig`.

    Raises:
        ValueError: an option is out of its range; the message gives its name and value.
    """

    def __init__(self, cfg, task):
        for name in (
            *("ignore_prefix_size", "bonus_delay_updates", "bonus_warmup_updates"),
            *("class_weight_power", "class_weight_delay_updates"),
        ):
            value = getattr(cfg, name)
            if not isinstance(value, (int, float)) or value < 0:
                raise ValueError(f"{name} is {value}, expected 0 or more")
        of_parent = cfg.sentence_avg, cfg.label_smoothing, cfg.ignore_prefix_size
        super().__init__(task, *of_parent, cfg.report_accuracy)
        self.spec = checked_spec(
            *(cfg.log_end, cfg.label_smoothing, self.padding_idx, "sum"),
            *(cfg.bonus_start, cfg.bonus_weight, cfg.base_loss),
        )
        self.fused_projection, self.no_inplace = cfg.fused_projection, cfg.no_inplace
        if self.fused_projection and cfg.base_loss == "mse":
            raise ValueError("fused_projection is for base_loss 'ce', not 'mse': leave it out")
        self.delay, self.warmup = cfg.bonus_delay_updates, cfg.bonus_warmup_updates
        self.has_bonus = cfg.bonus_weight > 0
        self._class_weight, self.class_weight_delay = None, cfg.class_weight_delay_updates
        if cfg.class_weight_power:
            self._class_weight = class_weights(
                task.target_dictionary, cfg.class_weight_power, cfg.class_weight_smoothing
            )
        self.num_updates = None  # outside of a training
        if self.delay or self.warmup or self.class_weight_delay:
            self._learn_update_count_from(task)

    @classmethod
    def build_criterion(cls, cfg, task):
        """A wrong option on the command line ends the program with one line."""
        try:
            return super().build_criterion(cfg, task)
        except (TypeError, ValueError) as error:
            raise SystemExit(f"criterion encouraging_loss: {error}") from None

    def _learn_update_count_from(self, task):
        # fairseq passes the number of updates to the task's train_step and to parts of the model,
        # but not to criterions.
        train_step = task.train_step

        def counted_train_step(*args, update_num, **kwargs):
            self.num_updates = update_num
            return train_step(*args, update_num=update_num, **kwargs)

        task.train_step = counted_train_step

    def current_bonus_weight(self):
        """Weight of the bonus at this update; outside of a training, the full weight."""
        weight = self.spec.bonus_weight
        if self.num_updates is None or self.num_updates >= self.delay + self.warmup:
            return weight
        return weight * max(self.num_updates - self.delay, 0) / max(self.warmup, 1)

    def current_class_weight(self, device):
        """Weights of the classes (V,) at this update, or ``None`` if there are none."""
        waits = self.num_updates is not None and self.num_updates < self.class_weight_delay
        if self._class_weight is None or waits:
            return None
        self._class_weight = self._class_weight.to(device)
        return self._class_weight

    def forward(self, model, sample, reduce=True):
        check_served(model)
        # Nothing but this method sees what the model returns, unless a subclass does.
        in_place = (
            type(self) is EncouragingLossCriterion
            and not self.no_inplace
            and model.training
            and is_plain_transformer(model)
        )
        sample = {**sample, "in_place": in_place}
        if self.fused_projection:
            check_fusible(model)
            sample["net_input"] = {**sample["net_input"], "features_only": True}
        loss, sample_size, logging_output = super().forward(model, sample, reduce)
        if self.delay or self.warmup:
            logging_output["bonus_weight"] = self.current_bonus_weight() * sample_size
        return loss, sample_size, logging_output

    def compute_loss(self, model, net_output, sample, reduce=True):
        in_place, whole = sample.get("in_place", False), layers_of(model)[-1]
        if self.fused_projection or predicts_by_softmax(whole):
            output, target = net_output[0], model.get_targets(sample, net_output)
            if self.ignore_prefix_size > 0:
                output = output[:, self.ignore_prefix_size :]
                target = target[:, self.ignore_prefix_size :]
            inputs, target = [output.reshape(-1, output.size(-1))], target.reshape(-1)
            classes = output.size(-1)
            if self.fused_projection:  # the output holds hidden states
                projection = whole.decoder.output_projection
                inputs += [projection.weight, projection.bias]
                classes = projection.out_features
        else:
            # The model computes log-probabilities in its own way (adaptive softmax, copying). They
            # serve as logits: log_softmax does not change them.
            scores, target = self.get_lprobs_and_target(model, net_output, sample)
            inputs, classes, in_place = [scores], scores.size(-1), False
        spec = self.spec._replace(
            bonus_weight=self.current_bonus_weight(),
            label_smoothing=self.eps * classes / (classes - 1),  # in PyTorch's convention
            reduction="sum" if reduce else "none",
            inplace_backward=in_place,
        )
        class_weight = self.current_class_weight(net_output[0].device)
        loss, nll, correct = loss_of(inputs, target, spec, class_weight)
        mask = target.ne(self.padding_idx)
        self._counts = torch.sum(correct & mask), torch.sum(mask)
        if reduce:
            return loss, nll.sum()
        return loss.unsqueeze(-1), nll.unsqueeze(-1)

    def compute_accuracy(self, model, net_output, sample):
        # The loss has counted them: it computes the largest logit of each row anyway, and its
        # gradient may have overwritten the logits.
        return self._counts

    @classmethod
    def reduce_metrics(cls, logging_outputs):
        super().reduce_metrics(logging_outputs)
        if any("bonus_weight" in log for log in logging_outputs):
            sample_size = sum(log["sample_size"] for log in logging_outputs)
            weight = sum(log["bonus_weight"] for log in logging_outputs) / sample_size
            # With weight 0 it is not averaged: fairseq shows the latest value.
            metrics.log_scalar("bonus_weight", weight, weight=0, round=3)


def class_weights(dictionary, power, smoothing):
    """Weights ``(count + smoothing) ** -power`` of a fairseq dictionary's symbols, (V,), float32.

    Their mean over the counted tokens is 1, so that loss and learning rate keep their scale.
    Special symbols, which fairseq-preprocess does not count, have weight 1.

    Raises:
        ValueError: the smoothing is not positive, or all counts are 0.
    """
    if not smoothing > 0:
        raise ValueError(f"class_weight_smoothing is {smoothing}, expected more than 0")
    counts = torch.tensor(dictionary.count[dictionary.nspecial :], dtype=torch.float64)
    if not counts.sum() > 0:
        raise ValueError("class weights need counts in the target dictionary, but all are 0")
    weights = (counts + smoothing) ** -power
    weights = (weights * counts.sum() / (weights * counts).sum()).float()
    return torch.cat([torch.ones(dictionary.nspecial), weights])
