"""What --fused-projection cannot serve ends the program with one line before training."""

import types
from argparse import Namespace

import pytest
import torch
from fairseq.distributed import FullyShardedDataParallel, ModuleProxyWrapper
from fairseq.models import FairseqEncoderDecoderModel
from fairseq.models.bart import BARTModel, bart_base_architecture
from fairseq.models.transformer_align import TransformerAlignModel
from fairseq.nan_detector import NanDetector
from small_models import TRANSFORMER, Task, criterion, sample, train_once, translation_model
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torch.nn.utils.stateless import functional_call

FUSED = {"fused_projection": True}


def refusal(model):
    with pytest.raises(SystemExit) as end:
        criterion(**FUSED)(model, sample())
    assert "\n" not in str(end.value)
    return str(end.value)


def build(kind, architecture, **options):
    options = {"dropout": 0.0, "max_source_positions": 64, "max_target_positions": 64, **options}
    args = Namespace(**TRANSFORMER, **options)
    architecture(args)
    return kind.build_model(args, Task()).double()


def test_models_whose_forward_returns_no_features_are_refused_by_name():
    aligning = build(
        TransformerAlignModel,
        lambda args: None,
        alignment_heads=1,
        alignment_layer=0,
        full_context_alignment=False,
    )
    assert "cannot serve TransformerAlignModel" in refusal(aligning)
    plain = translation_model()
    of_a_pair = FairseqEncoderDecoderModel(plain.encoder, plain.decoder)  # multilingual_transformer
    assert "cannot serve FairseqEncoderDecoderModel" in refusal(of_a_pair)


def test_adaptive_softmax_and_probabilities_of_a_models_own_are_refused():
    assert "cannot serve" in refusal(translation_model(adaptive_softmax_cutoff="8,12"))
    model = translation_model()
    model.get_normalized_probs = types.MethodType(lambda self, *args, **kw: None, model)
    assert "does not end in the plain output projection" in refusal(model)


def test_a_decoder_with_its_own_output_layer_is_refused():
    model = translation_model()

    class OwnOutput(type(model.decoder)):
        def output_layer(self, features):
            return super().output_layer(features) * 2

    model.decoder.__class__ = OwnOutput
    assert "cannot serve TransformerModel" in refusal(model)


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
    message = refusal(model)
    assert "hooks" in message or "plain output projection" in message
    criterion()(model, sample())[0].backward()  # unfused it trains


def test_fairseqs_own_search_for_a_nan_goes_on():
    model = translation_model()
    with NanDetector(model, backward=False):
        criterion(**FUSED)(model, sample())[0].backward()


@pytest.fixture
def process_group():
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(("tied", "find_unused"), [(True, True), (False, False), (False, True)])
def test_an_untied_projection_is_refused_under_find_unused_parameters(
    process_group, tied, find_unused
):
    model = translation_model(share_decoder_input_output_embed=tied)
    parallel = nn.parallel.DistributedDataParallel(model, find_unused_parameters=find_unused)
    wrapped = ModuleProxyWrapper(parallel)
    if find_unused and not tied:
        assert "leave one of the two options out" in refusal(wrapped)
    else:
        assert criterion(**FUSED)(wrapped, sample())[0].isfinite()


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


def test_a_model_whose_weights_are_in_shards_trains_as_a_whole_one():
    model = Sharded(translation_model())
    loss = criterion()(model, sample())[0]
    loss.backward()
    expected = train_once(criterion(), translation_model(), sample())
    torch.testing.assert_close(loss.detach(), expected["loss"])
    # Stock fairseq keeps weights for its fast inference beside the ones that it trains.
    shards = model.shards.items()
    gradients = {name: shard.grad for name, shard in shards if shard.grad is not None}
    torch.testing.assert_close(gradients, expected["gradients"])


def test_weights_in_shards_are_refused_by_the_fused_projection():
    message = refusal(Sharded(translation_model()))
    assert "FullyShardedDataParallel" in message
    assert "--ddp-backend legacy_ddp" in message


def test_bart_is_served():
    torch.manual_seed(1)
    model = build(BARTModel, bart_base_architecture)
    plain, fused = (train_once(criterion(**options), model, sample()) for options in ({}, FUSED))
    torch.testing.assert_close(fused, plain)
