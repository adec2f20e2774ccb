"""The encouraging loss for the ``Trainer`` of Hugging Face's transformers, 4.46 and later."""

import sys
import weakref
from typing import Any, Dict, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

try:
    from transformers import Trainer, TrainerCallback
    from transformers.utils import logging
except ImportError as error:
    raise ImportError(
        f"el_fairseq.integrations.transformers needs transformers and accelerate ({error}): "
        "in a clone of el_fairseq, pip install '.[transformers]'"
    ) from None

from ..loss import checked_spec, encouraging_loss

__all__ = ["EncouragingLossFunc", "encouraging_loss_func"]

logger = logging.get_logger(__name__)

IGNORED = -100


def encouraging_loss_func(
    log_end: float = 0.5,
    label_smoothing: Optional[float] = None,
    *,
    bonus_start: float = 0.0,
    bonus_weight: float = 1.0,
    shift_labels: Optional[bool] = None,
) -> "EncouragingLossFunc":
    """A loss for ``Trainer(..., compute_loss_func=encouraging_loss_func(log_end=0.5))``.

    With ``bonus_weight=0`` it is the Trainer's cross-entropy over the tokens whose label is not
    -100, divided by their number in all of a step's accumulated batches.

    Args:
        log_end, bonus_start, bonus_weight: as for :func:`el_fairseq.encouraging_loss`.
        label_smoothing: in [0, 1), in PyTorch's convention, which is the Trainer's as well;
            ``None`` takes ``TrainingArguments.label_smoothing_factor``.
        shift_labels: whether labels are the input itself, so that position ``t`` predicts label
            ``t + 1``; ``None`` tells by the class of the model's output: decoder-only models
            shift, encoder-decoders, masked language models and classifiers do not.

    Evaluation and prediction report ``eval_loss_without_bonus`` beside ``eval_loss``: the loss
    with ``bonus_weight=0``, which compares with the ``eval_loss`` of cross-entropy.

    Raises:
        ValueError: an option out of its range; in training, whatever would lead to another loss
            than the one asked for (see :class:`EncouragingLossFunc`).
    """
    return EncouragingLossFunc(log_end, label_smoothing, bonus_start, bonus_weight, shift_labels)


class EncouragingLossFunc(TrainerCallback):  # type: ignore[misc]
    """What :func:`encouraging_loss_func` returns.

    Called by a Trainer for the first time it checks the Trainer's options, and joins its
    callbacks to report the evaluation loss without the bonus. It raises ``ValueError`` where

    - ``label_smoothing_factor`` contradicts ``label_smoothing``;
    - an encoder-decoder got no ``decoder_input_ids``: the Trainer takes the labels, which the
      model would have made them from, out of the inputs;
    - the model has an auxiliary loss of its own (mixtures of experts), which would be lost;
    - several GPUs share one process (``nn.DataParallel``), where the Trainer scales wrongly;
    - there are no labels, or the kind of the model's output is not known.
    """

    def __init__(
        self,
        log_end: float,
        label_smoothing: Optional[float],
        bonus_start: float,
        bonus_weight: float,
        shift_labels: Optional[bool],
    ) -> None:
        self.options = {
            "log_end": log_end,
            "bonus_start": bonus_start,
            "bonus_weight": bonus_weight,
        }
        checked_spec(label_smoothing=label_smoothing or 0.0, **self.options)
        self.label_smoothing = label_smoothing
        self.shift_labels = shift_labels
        self._trainer: Any = lambda: None
        self._without_bonus: List[Tensor] = []

    def __call__(
        self, outputs: Any, labels: Optional[Tensor], num_items_in_batch: Any = None
    ) -> Tensor:
        """Loss of a model's output: a scalar in nats, summed over the labels that are not -100
        and divided by ``num_items_in_batch``, or by their own number where that is ``None``."""
        trainer, inputs = _calling_trainer()
        if trainer is not None and trainer is not self._trainer():
            self._serve(trainer, inputs)
        logits, target = self._logits_and_target(outputs, labels)
        smoothing = self._smoothing(trainer)
        loss = encouraging_loss(
            logits, target, label_smoothing=smoothing, reduction="sum", **self.options
        )
        processes = 1
        if num_items_in_batch is None:
            num_items_in_batch = (target != IGNORED).sum()
        elif trainer is not None:
            processes = _processes_counted(trainer)
        count = torch.as_tensor(num_items_in_batch, device=loss.device).clamp(min=1)
        if trainer is not None and not torch.is_grad_enabled():
            options = {**self.options, "bonus_weight": 0.0}
            bare = encouraging_loss(
                logits, target, label_smoothing=smoothing, reduction="sum", **options
            )
            # Scaled and gathered as the Trainer will do with the loss: repeated, to count as
            # often as the batch has examples.
            scaled = bare * processes / count
            gathered = trainer.gather_function(scaled.repeat(len(outputs["logits"])))
            self._without_bonus.append(gathered.cpu())
        return loss / count

    def _serve(self, trainer: Any, inputs: Dict[str, Any]) -> None:
        """Check what a Trainer's options and data mean for the loss, and join its callbacks."""
        args = trainer.args
        given, factor = self.label_smoothing, args.label_smoothing_factor
        if given is not None and factor not in (0, given):
            raise ValueError(
                f"label_smoothing is {given} but TrainingArguments.label_smoothing_factor is "
                f"{factor}: give one of them, or both the same value; it is applied once"
            )
        if args.n_gpu > 1:
            raise ValueError(
                f"one process drives {args.n_gpu} GPUs (nn.DataParallel), where the Trainer "
                "multiplies the loss by their number; start one process a GPU instead: "
                f"torchrun --nproc_per_node {args.n_gpu} ..."
            )
        is_encoder_decoder = getattr(trainer.model.config, "is_encoder_decoder", False)
        made = {"decoder_input_ids", "decoder_inputs_embeds"} & set(inputs)
        if is_encoder_decoder and not made:
            raise ValueError(
                "the batch has no decoder_input_ids, and the Trainer takes the labels out of the "
                "inputs of an encoder-decoder, so that it cannot make them; have the collator make "
                "them: DataCollatorForSeq2Seq(tokenizer, model=model)"
            )
        if getattr(args, "predict_with_generate", False):
            logger.warning(
                "With predict_with_generate, Seq2SeqTrainer's eval_loss is its own cross-entropy, "
                "without the bonus: the encouraging loss is not asked."
            )
        self._trainer = weakref.ref(trainer)
        self._without_bonus = []
        callbacks = trainer.callback_handler.callbacks
        if self not in callbacks:
            callbacks.insert(0, self)  # before those that write the logs somewhere

    def _smoothing(self, trainer: Any) -> float:
        if self.label_smoothing is not None:
            return self.label_smoothing
        return 0.0 if trainer is None else float(trainer.args.label_smoothing_factor)

    def _logits_and_target(self, outputs: Any, labels: Optional[Tensor]) -> Tuple[Tensor, Tensor]:
        """Logits (N, V) and target (N,) of a model's output and its labels."""
        name = type(outputs).__name__
        if labels is None:
            raise ValueError(
                "the batch has no labels; the encouraging loss needs class indices under 'labels'"
            )
        if not isinstance(outputs, dict) or outputs.get("logits") is None:
            raise ValueError(
                f"the model's output is {name} without logits, expected a ModelOutput with them: "
                "leave return_dict and use_liger_kernel at their defaults"
            )
        if outputs.get("aux_loss") is not None:
            raise ValueError(
                f"the model's output ({name}) has an auxiliary loss, which the Trainer adds to "
                "the model's own loss alone; switch it off: model.config.output_router_logits = "
                "False"
            )
        logits = outputs["logits"]
        shift = _shifts_labels(name) if self.shift_labels is None else self.shift_labels
        if logits.shape[:-1] != labels.shape:
            raise ValueError(
                f"labels have shape {tuple(labels.shape)}, expected {tuple(logits.shape[:-1])} "
                f"for logits of shape {tuple(logits.shape)} ({name})"
            )
        if shift:  # the labels move, not the logits, whose copy would cost memory
            labels = F.pad(labels[..., 1:], (0, 1), value=IGNORED)
        return logits.reshape(-1, logits.size(-1)), labels.reshape(-1).to(logits.device)

    def _report(self, metrics: Dict[str, float]) -> None:
        """Put the loss without the bonus beside the one that the metrics of an evaluation have."""
        losses = [name for name in metrics if name.endswith("_loss")]
        if not losses or not self._without_bonus:
            return
        name = min(losses, key=len)  # PREFIX_loss; a metric of the user is PREFIX_X_loss
        metrics[f"{name}_without_bonus"] = torch.cat(self._without_bonus).double().mean().item()
        self._without_bonus = []

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Dict[str, float], **kwargs: Any
    ) -> None:
        before = set(logs)
        self._report(logs)
        state.log_history[-1].update({name: logs[name] for name in set(logs) - before})

    def on_predict(
        self, args: Any, state: Any, control: Any, metrics: Dict[str, float], **kwargs: Any
    ) -> None:
        self._report(metrics)


def _calling_trainer() -> Tuple[Any, Dict[str, Any]]:
    """The Trainer whose ``compute_loss`` is running, and the model's inputs; else ``None``, {}.

    Read off the calling functions, because a Trainer gives its loss neither itself nor its
    options: ``label_smoothing_factor`` would be ignored without a word.
    """
    frame = sys._getframe(1)
    while frame is not None:
        trainer = frame.f_locals.get("self")
        if frame.f_code.co_name == "compute_loss" and isinstance(trainer, Trainer):
            return trainer, frame.f_locals.get("inputs", {})
        frame = frame.f_back  # type: ignore[assignment]
    return None, {}


def _processes_counted(trainer: Any) -> int:
    """By how much a Trainer multiplies a loss divided by the items of all its processes."""
    if not getattr(trainer.args, "average_tokens_across_devices", False):
        return 1
    of_one_batch = getattr(trainer, "get_tp_size", lambda: 1)()  # tensor-parallel processes
    return int(trainer.accelerator.num_processes // of_one_batch)


def _shifts_labels(name: str) -> bool:
    """Whether models of the output class predict the next label, by the names transformers uses."""
    if "CausalLM" in name:
        return True
    if any(kind in name for kind in ("Seq2Seq", "MaskedLM", "Classifier")):
        return False
    raise ValueError(
        f"whether labels are shifted is not known for a model that returns {name}; say so: "
        "encouraging_loss_func(shift_labels=True) where position t predicts label t + 1, else False"
    )
