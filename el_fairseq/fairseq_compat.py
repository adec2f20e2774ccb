"""What the criterion has to know of fairseq: its models, and what its packages get wrong."""

import functools
import logging
import types

import numpy as np
import torch
from fairseq import checkpoint_utils
from fairseq.data import data_utils
from fairseq.distributed import (
    DistributedTimeoutWrapper,
    LegacyDistributedDataParallel,
    ModuleProxyWrapper,
)
from fairseq.models import BaseFairseqModel, FairseqDecoder, FairseqLanguageModel
from fairseq.models.bart import BARTModel
from fairseq.models.masked_lm import MaskedLMModel
from fairseq.models.nat import FairseqNATModel
from fairseq.models.roberta import RobertaModel
from fairseq.models.transformer import (
    TransformerDecoder,
    TransformerDecoderBase,
    TransformerModel,
    TransformerModelBase,
)
from fairseq.models.transformer_lm import TransformerLanguageModel
from fairseq.nan_detector import NanDetector
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from .safe_load import trust_fairseq_checkpoints

logger = logging.getLogger(__name__)

# What fairseq wraps around a model to train it in several processes, and leaves its weights whole.
_WRAPPERS = (
    DistributedDataParallel,
    DistributedTimeoutWrapper,
    LegacyDistributedDataParallel,
    ModuleProxyWrapper,
)


def layers_of(model):
    """What distributed training wraps around a fairseq model, from the outside in, and itself."""
    layers = [model]
    while not isinstance(layers[-1], BaseFairseqModel) and hasattr(layers[-1], "module"):
        layers.append(layers[-1].module)
    return layers


def unwrapped(model):
    """The fairseq model itself, out of what distributed training wraps around it."""
    return layers_of(model)[-1]


def predicts_by_softmax(model):
    """Whether the model's probabilities are the plain softmax of ``net_output[0]``."""
    decoder = getattr(model, "decoder", None)
    return (
        # The Transformer has a copy of its base's method, for the sake of TorchScript.
        _runs(model, "get_normalized_probs", BaseFairseqModel, TransformerModelBase)
        and _runs(model, "get_normalized_probs_scriptable", BaseFairseqModel)
        and _runs(decoder, "get_normalized_probs", FairseqDecoder)
        and _runs(decoder, "get_normalized_probs_scriptable", FairseqDecoder)
        and getattr(decoder, "adaptive_softmax", None) is None
    )


def _runs(module, method, *classes):
    """Whether calling ``module.method`` runs the method as one of the classes defines it."""
    function = getattr(getattr(module, method, None), "__func__", None)
    return any(function is getattr(each, method) for each in classes)


def is_plain_transformer(model):
    """Whether the model is fairseq's own Transformer, which has no use for its logits afterwards.

    Told by the types of the model, its decoder and projection, and of what is wrapped around it.
    """
    *wrappers, model = layers_of(model)
    return (
        all(type(wrapper) in _WRAPPERS for wrapper in wrappers)
        and type(model) in (TransformerModel, TransformerModelBase, TransformerLanguageModel)
        and type(model.decoder) in (TransformerDecoder, TransformerDecoderBase)
        and type(model.decoder.output_projection) is torch.nn.Linear
    )


def check_served(model):
    """End the program where the model predicts otherwise than token by token of a target."""
    model = unwrapped(model)
    others = {RobertaModel: "masked_lm", MaskedLMModel: "masked_lm", FairseqNATModel: "nat_loss"}
    for kind, own in others.items():
        if isinstance(model, kind):
            raise SystemExit(
                f"criterion encouraging_loss cannot serve {type(model).__name__}: it is for "
                "models that predict every token of a target, as in translation and language "
                f"modeling; train this one with --criterion {own}"
            )


def check_fusible(model):
    """End the program unless the model ends in a plain projection of a Transformer's features
    that can be read outside of its forward method."""
    *wrappers, model = layers_of(model)
    decoder = getattr(model, "decoder", None)
    projection = getattr(decoder, "output_projection", None)
    foreign = [type(layer).__name__ for layer in wrappers if type(layer) not in _WRAPPERS]
    if foreign:
        problem = (
            f"a model in {foreign[0]}, whose weights may not be whole outside of its forward; "
            "choose --ddp-backend legacy_ddp, or leave it out"
        )
    elif not (
        predicts_by_softmax(model)
        # These three know features_only.
        and _runs(model, "forward", TransformerModelBase, FairseqLanguageModel, BARTModel)
        and _runs(decoder, "forward", TransformerDecoderBase)
        and _runs(decoder, "output_layer", TransformerDecoderBase)
        and type(projection) is torch.nn.Linear
    ):
        problem = (
            f"{type(model).__name__}, which does not end in the plain output projection of a "
            "fairseq Transformer; leave it out"
        )
    elif _hooks(model, decoder, projection):
        problem = (
            f"{type(model).__name__} with hooks (as weight_norm, spectral_norm and pruning set "
            "them), because it goes around them; remove them, or leave it out"
        )
    else:
        return
    raise SystemExit(f"criterion encouraging_loss: --fused-projection cannot serve {problem}")


def _hooks(*modules):
    """The modules' hooks but those of fairseq's NaN detector, which only looks."""
    kinds = "_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks"
    tables = [getattr(module, kind, {}) for module in modules for kind in kinds]
    hooks = [hook for table in tables for hook in table.values()]
    return [hook for hook in hooks if not isinstance(getattr(hook, "__self__", None), NanDetector)]


@functools.lru_cache(maxsize=None)
def mend():
    """Mend fairseq for the extension, once a process, which the criterion's module asks for.

    Two of fairseq's functions are rebound, to log what fairseq does in silence.
    """
    trust_fairseq_checkpoints()
    # Language models end in an AttributeError without it under --sample-break-mode eos, and
    # translation does under --num-batch-buckets.
    if not hasattr(np, "compat"):
        np.compat = types.SimpleNamespace(long=int)
    data_utils.batch_by_size = _with_warning_of_dropped_sentences(data_utils.batch_by_size)
    checkpoint_utils.load_checkpoint = _with_warning_of_metric(checkpoint_utils.load_checkpoint)


def _warn(message):
    """Log a warning of the first process alone."""
    if not distributed.is_initialized() or distributed.get_rank() == 0:
        logger.warning(message)


def _with_warning_of_dropped_sentences(batch_by_size):
    """Have fairseq say, once, that it leaves sentences out.

    Its main branch, and so ve-fairseq, drops a last batch whose size is no multiple of
    ``--required-batch-size-multiple`` (8 by default) in silence. No part of fairseq that an
    extension is asked about knows both the option and the data.
    """
    warned = []

    @functools.wraps(batch_by_size)
    def watched(indices, *args, **kwargs):
        indices = np.fromiter(indices, dtype=np.int64)
        batches = batch_by_size(indices, *args, **kwargs)
        dropped = len(indices) - sum(map(len, batches))
        if dropped and not warned:
            warned.append(True)
            _warn(
                f"fairseq leaves out {dropped} of these {len(indices)} sentences, the longest, in "
                "validation and test sets too: --required-batch-size-multiple 1 keeps every "
                "sentence"
            )
        return batches

    return watched


def _with_warning_of_metric(load_checkpoint):
    """Have a training with a bonus say that its best checkpoint is chosen by what a bonus changes.

    fairseq looks for a checkpoint before a training, with the options of checkpoints and the
    trainer at hand; a criterion is told neither.
    """

    @functools.wraps(load_checkpoint)
    def watched(cfg, trainer, *args, **kwargs):
        if (
            getattr(trainer.get_criterion(), "has_bonus", False)
            and cfg.best_checkpoint_metric in ("loss", "nll_loss", "ppl")
            and not (cfg.no_save or trainer.cfg.dataset.disable_validation)
        ):
            _warn(
                f"checkpoint_best.pt is going to be chosen by {cfg.best_checkpoint_metric}, which "
                "the encouraging loss makes a poor judge. Choose by accuracy: "
                "--best-checkpoint-metric accuracy --report-accuracy "
                "--maximize-best-checkpoint-metric (or by bleu with --eval-bleu)"
            )
        return load_checkpoint(cfg, trainer, *args, **kwargs)

    return watched
