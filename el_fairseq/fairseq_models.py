"""What the criterion has to know of a fairseq model: how it predicts, who can hold its logits."""

import torch
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
from torch.nn.modules import module as torch_module
from torch.nn.parallel import DistributedDataParallel

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


def is_original(method, *packages):
    """Whether a method is as the packages define it, replaced on neither object nor class."""
    return method.__module__.split(".")[0] in packages and not hasattr(method, "__wrapped__")


def _hooks(*modules):
    """Hooks on any of the modules or on all modules, but for those of fairseq's NaN detector.

    That one is set when training has failed already, and only looks.
    """
    hooks = []
    for kind in ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks"):
        tables = [getattr(torch_module, f"_global{kind}", {})]
        tables += [getattr(module, kind, {}) for module in modules]
        hooks += [hook for table in tables for hook in table.values()]
    return [hook for hook in hooks if not isinstance(getattr(hook, "__self__", None), NanDetector)]


def keeps_no_logits(model):
    """Whether nobody but the caller can hold the logits that the model returns.

    So it is for fairseq's own Transformers, which have no use for them afterwards, where nothing
    is hooked into what they pass through. What others have written may keep them.
    """
    *wrappers, model = layers_of(model)
    if not (
        all(type(wrapper) in _WRAPPERS for wrapper in wrappers)
        and type(model) in (TransformerModel, TransformerModelBase, TransformerLanguageModel)
        and type(model.decoder) in (TransformerDecoder, TransformerDecoderBase)
        and type(model.decoder.output_projection) is torch.nn.Linear
    ):
        return False
    decoder, projection = model.decoder, model.decoder.output_projection
    methods = (model.forward, decoder.forward, decoder.output_layer, projection.forward)
    return all(is_original(method, "fairseq", "torch") for method in methods) and not _hooks(
        *wrappers, model, decoder, projection
    )


_VIEWS = {"ViewBackward", "UnsafeViewBackward", "ReshapeAliasBackward", "AsStridedBackward"}
_PROJECTIONS = {"MmBackward", "AddmmBackward", "BmmBackward", "LinearBackward"}


def comes_from_projection(logits):
    """Whether autograd made the tensor by a matrix product, whose backward does not read it."""
    node = logits.grad_fn
    while node is not None and node.name().rstrip("0123456789") in _VIEWS:
        node = node.next_functions[0][0]
    return node is not None and node.name().rstrip("0123456789") in _PROJECTIONS


def check_served(model):
    """End the program where the model predicts otherwise than token by token of a target."""
    model = unwrapped(model)
    for kind, own in (
        (RobertaModel, "masked_lm"),
        (MaskedLMModel, "masked_lm"),
        (FairseqNATModel, "nat_loss"),
    ):
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
            f"a model in {foreign[0]}, which may not hold the output projection's weights whole "
            "outside of the model's forward; leave --fused-projection out, or choose "
            "--ddp-backend legacy_ddp"
        )
    elif not (
        predicts_by_softmax(model)
        # These three know features_only.
        and _runs(model, "forward", TransformerModelBase, FairseqLanguageModel, BARTModel)
        and _runs(decoder, "forward", TransformerDecoderBase)
        and _runs(decoder, "output_layer", TransformerDecoderBase)
        and type(projection) is torch.nn.Linear
        and is_original(projection.forward, "torch")
    ):
        problem = (
            f"{type(model).__name__}, which does not end in the plain output projection of a "
            "fairseq Transformer; leave --fused-projection out"
        )
    elif _hooks(*wrappers, model, decoder, projection):
        problem = (
            f"{type(model).__name__} with hooks (as weight_norm, spectral_norm and pruning set "
            "them), because it goes around them; remove them, or leave --fused-projection out"
        )
    elif any(getattr(wrapper, "find_unused_parameters", False) for wrapper in wrappers) and not (
        all(weight is decoder.embed_tokens.weight for weight in projection.parameters())
    ):
        problem = (
            "an output projection of its own under --find-unused-parameters, which takes its "
            "weights for unused; leave one of the two options out"
        )
    else:
        return
    raise SystemExit(f"criterion encouraging_loss: --fused-projection cannot serve {problem}")
