"""The encouraging loss for the ``Trainer`` of Hugging Face's transformers, 4.46 and later."""

import functools
from dataclasses import dataclass, replace
from typing import Any, Dict, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

try:
    from transformers import Trainer
except ImportError as error:
    raise ImportError(
        f"el_fairseq.integrations.transformers needs transformers and accelerate ({error}): "
        "in a clone of el_fairseq, pip install '.[transformers]'"
    ) from None

from ..loss import checked_spec, encouraging_loss

__all__ = ["EncouragingLossFunc", "EncouragingLossMixin", "encouraging_loss_func"]

IGNORED = -100


@dataclass(frozen=True)
class EncouragingLossFunc:
    """The loss with its options, as the ``compute_loss_func`` of a Trainer.

    A Trainer passes to its loss neither the model nor the Trainer's options.
    :class:`EncouragingLossMixin` reads them.

    Args:
        log_end, bonus_start, bonus_weight: as for :func:`el_fairseq.encouraging_loss`.
        label_smoothing: in [0, 1), in PyTorch's convention, which is also the Trainer's. ``None``
            means 0, or, with the mixin, ``TrainingArguments.label_smoothing_factor``.
        shift_labels: true if position ``t`` predicts label ``t + 1``, as for GPT-2; false if it
            predicts label ``t``, as for T5 and BERT. ``None`` leaves it to the mixin. Without the
            mixin, ``None`` refuses labels of sequences, but not those of classifiers.

    Raises:
        ValueError: an option is wrong; the message gives its name and value.
    """

    log_end: float = 0.5
    label_smoothing: Optional[float] = None
    bonus_start: float = 0.0
    bonus_weight: float = 1.0
    shift_labels: Optional[bool] = None

    def __post_init__(self) -> None:
        if self.shift_labels not in (None, True, False):
            raise ValueError(f"shift_labels is {self.shift_labels!r}, expected True, False or None")
        checked_spec(**self._options())

    def _options(self) -> Dict[str, Any]:
        options = {**vars(self), "label_smoothing": self.label_smoothing or 0.0}
        del options["shift_labels"]
        return options

    def __call__(
        self, outputs: Any, labels: Optional[Tensor], num_items_in_batch: Any = None
    ) -> Tensor:
        """Loss of a model's output: a scalar in nats, summed over the labels that are not -100
        and divided by ``num_items_in_batch``, or by the number of these labels if that is ``None``.

        Raises:
            ValueError: there are no labels or no logits; the model has an auxiliary loss, which
                would be ignored; ``shift_labels`` is ``None`` for labels of sequences.
        """
        if labels is None:
            raise ValueError("the batch has no labels, expected class indices under 'labels'")
        logits = _logits(outputs)
        if labels.dim() > 1 and self.shift_labels is None:
            raise ValueError(
                "whether labels are shifted is not known. Give encouraging_loss_func("
                "shift_labels=True) if position t predicts label t + 1 (GPT-2, Llama), False "
                "if it predicts label t (BERT; T5, Marian and BART with DataCollatorForSeq2Seq("
                "tokenizer, model=model)). EncouragingLossMixin determines it by itself"
            )
        if labels.dim() > 1 and self.shift_labels:
            labels = F.pad(labels[..., 1:], (0, 1), value=IGNORED)  # a copy of logits costs memory
        labels = labels.reshape(-1).to(logits.device)
        logits = logits.reshape(-1, logits.size(-1))
        loss = encouraging_loss(logits, labels, reduction="sum", **self._options())
        if num_items_in_batch is None:
            num_items_in_batch = labels.ne(IGNORED).sum()
        return loss / torch.as_tensor(num_items_in_batch, device=loss.device).clamp(min=1)


encouraging_loss_func = EncouragingLossFunc  # used like a function in a Trainer's arguments


class EncouragingLossMixin:
    """Adds the loss to a Trainer: ``class ELTrainer(EncouragingLossMixin, Trainer): pass``.

    Its ``compute_loss_func`` is :class:`EncouragingLossFunc`, by default with the options of the
    paper. With ``bonus_weight=0`` the loss is the model's own, over all accumulated batches of a
    step. The first batch shows whether the model shifts its labels. If the collator has not made
    ``decoder_input_ids``, the mixin makes them of the labels. Evaluation and prediction also report
    ``eval_loss_without_bonus``, which is comparable with the ``eval_loss`` of cross-entropy, also
    under ``predict_with_generate``.

    Raises:
        TypeError: ``compute_loss_func`` is of another type; the mixin comes after the Trainer.
        ValueError: with this Trainer, model or number of GPUs, the loss would be another one, or
            label smoothing is given twice, with different values.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        order = cls.__mro__
        if Trainer in order[: order.index(EncouragingLossMixin)]:
            raise TypeError(
                f"{cls.__name__} names EncouragingLossMixin after its Trainer, and would keep the "
                "Trainer's loss: name the mixin first"
            )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        given = self.compute_loss_func
        given = EncouragingLossFunc() if given is None else given
        if not isinstance(given, EncouragingLossFunc):
            raise TypeError(
                f"compute_loss_func is {given!r}, expected encouraging_loss_func(...), a call with "
                "the options in its parentheses"
            )
        smoothing, factor = given.label_smoothing, float(self.args.label_smoothing_factor)
        if smoothing is not None and factor not in (0, smoothing):
            raise ValueError(
                f"label_smoothing is {smoothing} but TrainingArguments.label_smoothing_factor is "
                f"{factor}: give only one of them, or the same value for both; it is applied once"
            )
        if self.args.n_gpu > 1:
            raise ValueError(
                f"one process drives {self.args.n_gpu} GPUs (nn.DataParallel), where the "
                "Trainer multiplies the loss by their number; start one process a GPU instead: "
                f"torchrun --nproc_per_node {self.args.n_gpu} ..."
            )
        smoothing = factor if smoothing is None else smoothing
        self.encouraging_loss = replace(given, label_smoothing=smoothing)
        self.compute_loss_func = self._loss
        self._is_asked = False
        self._samples, self._without_bonus = [], []

    def _loss(self, outputs, labels, num_items_in_batch=None):
        self._is_asked = True
        return self.encouraging_loss(outputs, labels, num_items_in_batch)

    def get_batch_samples(self, *args, **kwargs):
        self._samples, count = super().get_batch_samples(*args, **kwargs)
        return self._samples, count

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels, count, call = inputs.get("labels"), num_items_in_batch, model
        config = getattr(self.accelerator.unwrap_model(model), "config", None)
        made = "decoder_input_ids" in inputs or "decoder_inputs_embeds" in inputs
        if getattr(config, "is_encoder_decoder", False) and not made:
            # The model makes them of the labels, but the Trainer removes labels from the inputs.
            call = functools.partial(model, labels=labels)
        if labels is not None and labels.dim() > 1 and self.encouraging_loss.shift_labels is None:
            shift = _shifts_labels(model, inputs)
            self.encouraging_loss = replace(self.encouraging_loss, shift_labels=shift)
        is_training = torch.is_grad_enabled()
        is_shifted = self.encouraging_loss.shift_labels or not hasattr(self, "_loss_shifts_labels")
        if count is not None and not is_shifted:
            # The Trainer decides by the model's class, wrongly for BartForCausalLM (no shift).
            self._loss_shifts_labels = False
            samples = self._samples if is_training else [inputs]
            count = self._get_num_items_in_batch(samples, self.args.device)
        self._is_asked = False
        loss, outputs = super().compute_loss(
            call, dict(inputs), return_outputs=True, num_items_in_batch=count
        )
        if not self._is_asked:
            raise ValueError(
                f"{type(self).__name__} computes its own loss and does not call compute_loss_func: "
                "leave out its compute_loss, or DeepSpeed's sequence parallelism"
            )
        if not is_training:
            bare = replace(self.encouraging_loss, bonus_weight=0.0)(outputs, labels, count)
            if count is not None and getattr(self.args, "average_tokens_across_devices", False):
                of_one_batch = getattr(self, "get_tp_size", lambda: 1)()
                bare = bare * (self.accelerator.num_processes // of_one_batch)
            # Repeated for each example and gathered, as the Trainer does with the loss.
            gathered = self.gather_function(bare.repeat(len(outputs["logits"])))
            self._without_bonus.append(gathered.cpu())
        return (loss, outputs) if return_outputs else loss

    def prediction_step(self, model, inputs, *args, **kwargs):
        before = len(self._without_bonus)
        loss, *others = super().prediction_step(model, inputs, *args, **kwargs)
        if loss is not None and len(self._without_bonus) == before:
            # A Seq2SeqTrainer that generates has computed the model's own loss.
            with torch.no_grad(), self.compute_loss_context_manager():
                loss = self.compute_loss(model, self._prepare_inputs(inputs)).detach()
        return (loss, *others)

    def evaluation_loop(self, *args, metric_key_prefix="eval", **kwargs):
        self._without_bonus = []
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        if self._without_bonus:
            mean = torch.cat(self._without_bonus).double().mean().item()
            output.metrics[f"{metric_key_prefix}_loss_without_bonus"] = mean
        return output


def _logits(outputs):
    name = type(outputs).__name__
    if not isinstance(outputs, dict) or outputs.get("logits") is None:
        raise ValueError(
            f"the model's output is {name} without logits, expected a ModelOutput with logits: "
            "leave return_dict and use_liger_kernel at their defaults"
        )
    if outputs.get("aux_loss") is not None:
        raise ValueError(
            f"the model's output ({name}) has an auxiliary loss, which the Trainer adds to no "
            "loss but the model's own; switch it off: model.config.output_router_logits = False"
        )
    return outputs["logits"]


def _shifts_labels(model, inputs):
    """Whether position ``t`` of a model predicts label ``t + 1``, by its own loss of one label.

    If labels are not shifted, a label only at the first position gives the cross-entropy of that
    position. If they are shifted, a label only at the second position gives it.
    """
    labels = inputs["labels"]
    label = labels[labels != IGNORED][:1]
    devices = [labels.device] if labels.is_cuda else []
    for position, shift in ((0, False), (1, True)):
        probe = torch.full_like(labels, IGNORED)
        probe[:, position : position + 1] = label if len(label) else 1
        with torch.no_grad(), torch.random.fork_rng(devices):
            outputs = model(**{**inputs, "labels": probe})
        logits, own = _logits(outputs)[:, 0], outputs.get("loss")
        expected = F.cross_entropy(logits.float(), probe[:, position].to(logits.device))
        rounding = torch.finfo(logits.dtype).eps ** 0.5
        if own is not None and torch.allclose(own.float().mean(), expected, rtol=rounding):
            return shift
    raise ValueError(
        f"the loss of {type(model).__name__} is not the mean cross-entropy of its labels, shifted "
        "or not, so it does not show which. Give encouraging_loss_func(shift_labels=True) if "
        "position t predicts label t + 1, else False"
    )
