"""What --fused-projection cannot serve ends the program with one line before training."""

import types

import pytest
import torch
from fairseq.distributed import FullyShardedDataParallel
from fairseq.models import FairseqEncoderDecoderModel
from fairseq.models.bart import BARTModel, bart_base_architecture
from fairseq.nan_detector import NanDetector
from small_models import built, criterion, sample, train_once, translation_model
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torch.nn.utils.stateless import functional_call

FUSED = {"fused_projection": True}


class Sharded(nn.Module):
    """A stand-in for fairscale's wrapper: the weights are whole in the model's forward alone."""

    def __init__(self, module):
        super().__init__()
        self.module, self.shards = module, dict(module.named_parameters())
        for name in self.shards:
            owner, _, weight = name.rpartition(".")
            setattr(module.get_submodule(owner), weight, nn.Parameter(torch.empty(0)))

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.module, name)

    def forward(self, **inputs):
        return functional_call(self.module, self.shards, (), inputs)


Sharded.__name__ = FullyShardedDataParallel.__name__


def of_a_pair(model):
    """As in multilingual_transformer."""
    return FairseqEncoderDecoderModel(model.encoder, model.decoder)


def with_probabilities_of_its_own(model):
    model.get_normalized_probs = types.MethodType(lambda self, *args, **kw: None, model)
    return model


def with_an_output_layer_of_its_own(model):
    class OwnOutput(type(model.decoder)):
        def output_layer(self, features):
            return super().output_layer(features) * 2

    model.decoder.__class__ = OwnOutput
    return model


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (of_a_pair, {}, "cannot serve FairseqEncoderDecoderModel"),
        (lambda model: model, {"adaptive_softmax_cutoff": "8,12"}, "plain output projection"),
        (with_probabilities_of_its_own, {}, "does not end in the plain output projection"),
        (with_an_output_layer_of_its_own, {}, "cannot serve TransformerModel"),
        (Sharded, {}, "FullyShardedDataParallel.*--ddp-backend legacy_ddp"),
    ],
)
def test_models_without_a_plain_projection_of_features_are_refused(change, options, message):
    with pytest.raises(SystemExit, match=message) as end:
        criterion(**FUSED)(change(translation_model(**options)), sample())
    assert "\n" not in str(end.value)


@pytest.mark.parametrize(
    "change",
    [
        weight_norm,
        spectral_norm,
        # Each of them as torch 2 does it; torch 1.12 has but one.
        getattr(parametrizations, "weight_norm", weight_norm),
        parametrizations.spectral_norm,
        lambda projection: prune.l1_unstructured(projection, "weight", 0.5),
        lambda projection: projection.register_forward_hook(lambda *_: None),
    ],
    ids=["weight_norm", "spectral_norm", "weight_norm 2", "spectral_norm 2", "prune", "hook"],
)
def test_a_projection_whose_weight_is_computed_or_watched_is_refused(change):
    model = translation_model()
    change(model.decoder.output_projection)
    with pytest.raises(SystemExit, match=r"with hooks|plain output projection"):
        criterion(**FUSED)(model, sample())
    criterion()(model, sample())[0].backward()  # unfused it trains


def test_fairseqs_own_search_for_a_nan_goes_on():
    model = translation_model()
    with NanDetector(model, backward=False):
        criterion(**FUSED)(model, sample())[0].backward()


def test_a_model_whose_weights_are_in_shards_trains_unfused_as_a_whole_one():
    model = Sharded(translation_model())
    loss = criterion()(model, sample())[0]
    loss.backward()
    expected = train_once(criterion(), translation_model(), sample())
    torch.testing.assert_close(loss.detach(), expected["loss"])
    # Stock fairseq keeps weights for its fast inference beside the ones that it trains.
    shards = model.shards.items()
    gradients = {name: shard.grad for name, shard in shards if shard.grad is not None}
    torch.testing.assert_close(gradients, expected["gradients"])


def test_bart_is_served():
    model = built(BARTModel, bart_base_architecture, max_source_positions=64)
    plain, fused = (train_once(criterion(**options), model, sample()) for options in ({}, FUSED))
    torch.testing.assert_close(fused, plain)
