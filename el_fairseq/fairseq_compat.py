"""What the criterion needs to know about fairseq: its models, and fixes for its packages.

Importing it applies the fixes; two functions of fairseq then warn of what it does silently.
"""

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
from torch.nn.parallel import DistributedDataParallel

from .safe_load import trust_fairseq_checkpoints

logger = logging.getLogger(__name__)

# Wrappers by which fairseq trains a model in several processes and which do not shard its weights.
_WRAPPERS = (
    DistributedDataParallel,
    DistributedTimeoutWrapper,
    LegacyDistributedDataParallel,
    ModuleProxyWrapper,
)


def instead_of(owner, name):
    """Put a function in place of ``owner.name``, which it is given as its first argument."""

    def replace(function):
        original = getattr(owner, name)
        setattr(owner, name, lambda *args, **options: function(original, *args, **options))
        return function

    return replace


def layers_of(model):
    """The wrappers of distributed training around a model, outermost first, then the model."""
    layers = [model]
    while not isinstance(layers[-1], BaseFairseqModel) and hasattr(layers[-1], "module"):
        layers.append(layers[-1].module)
    return layers


def predicts_by_softmax(model):
    """Whether the model's probabilities are the plain softmax of ``net_output[0]``."""
    decoder = getattr(model, "decoder", None)
    return (
        # The Transformer has a copy of its base's method, for TorchScript.
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
    """Whether the model is fairseq's own Transformer, which does not read its logits afterwards.

    The types of the model, its decoder, its projection and its wrappers decide.
    """
    *wrappers, model = layers_of(model)
    return (
        all(type(wrapper) in _WRAPPERS for wrapper in wrappers)
        and type(model) in (TransformerModel, TransformerModelBase, TransformerLanguageModel)
        and type(model.decoder) in (TransformerDecoder, TransformerDecoderBase)
        and type(model.decoder.output_projection) is torch.nn.Linear
    )


def check_served(model):
    """End the program if the model does not predict a target token by token."""
    *_, model = layers_of(model)
    others = {RobertaModel: "masked_lm", MaskedLMModel: "masked_lm", FairseqNATModel: "nat_loss"}
    for kind, own in others.items():
        if isinstance(model, kind):
            raise SystemExit(
                f"criterion encouraging_loss cannot serve {type(model).__name__}: it is for "
                "models that predict every token of a target, as in translation and language "
                f"modeling; train this one with --criterion {own}"
            )


def check_fusible(model):
    """End the program unless the model ends in a plain projection of a Transformer's features,
    whose weight can be read outside of the model's forward method."""
    *wrappers, model = layers_of(model)
    decoder = getattr(model, "decoder", None)
    projection = getattr(decoder, "output_projection", None)
    foreign = [type(layer).__name__ for layer in wrappers if type(layer) not in _WRAPPERS]
    if foreign:
        problem = (
            f"a model in {foreign[0]}, which may shard its weights outside of forward; choose "
            "--ddp-backend legacy_ddp, or leave it out"
        )
    elif not (
        predicts_by_softmax(model)
        # The forward methods of these three have the argument features_only.
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
            f"{type(model).__name__} with hooks (such as those of weight_norm, spectral_norm and "
            "pruning), because it does not run them; remove them, or leave it out"
        )
    else:
        return
    raise SystemExit(f"criterion encouraging_loss: --fused-projection cannot serve {problem}")


def _hooks(*modules):
    """The modules' hooks, without those of fairseq's NaN detector, which change nothing."""
    kinds = "_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks"
    tables = [getattr(module, kind, {}) for module in modules for kind in kinds]
    hooks = [hook for table in tables for hook in table.values()]
    return [hook for hook in hooks if not isinstance(getattr(hook, "__self__", None), NanDetector)]


trust_fairseq_checkpoints()
# Without it, language models with --sample-break-mode eos and translation with
# --num-batch-buckets fail with an AttributeError.
if not hasattr(np, "compat"):
    np.compat = types.SimpleNamespace(long=int)
_warned = []


@instead_of(data_utils, "batch_by_size")
def _batch_by_size(original, indices, *args, **options):
    """Warns, once, if fairseq leaves sentences out.

    Its main branch, and so ve-fairseq, silently drops a last batch whose size is not a multiple of
    ``--required-batch-size-multiple`` (8 by default). No class that an extension can register
    sees both the option and the data.
    """
    if not isinstance(indices, np.ndarray):
        indices = np.fromiter(indices, dtype=np.int64)
    batches = original(indices, *args, **options)
    dropped = len(indices) - sum(map(len, batches))
    if dropped and not _warned:
        _warned.append(True)
        logger.warning(
            f"fairseq leaves out {dropped} of these {len(indices)} sentences, the longest, in "
            "validation and test sets too: --required-batch-size-multiple 1 keeps every sentence"
        )
    return batches


@instead_of(checkpoint_utils, "load_checkpoint")
def _load_checkpoint(original, cfg, trainer, *args, **options):
    """Warns before a training with a bonus whose best checkpoint is chosen by a loss.

    fairseq calls this function with the options of checkpoints and the trainer. A criterion gets
    neither.
    """
    if (
        getattr(trainer.get_criterion(), "has_bonus", False)
        and cfg.best_checkpoint_metric in ("loss", "nll_loss", "ppl")
        and not (cfg.no_save or trainer.cfg.dataset.disable_validation)
    ):
        logger.warning(
            f"checkpoint_best.pt is going to be chosen by {cfg.best_checkpoint_metric}, which is "
            "a bad criterion under the encouraging loss. Choose by accuracy: "
            "--best-checkpoint-metric accuracy --report-accuracy "
            "--maximize-best-checkpoint-metric (or by bleu with --eval-bleu)"
        )
    return original(cfg, trainer, *args, **options)
