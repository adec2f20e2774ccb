"""In trainings of fairseq's own Transformers the gradient takes the logits' place."""

import pytest
import torch
from fairseq.distributed import LegacyDistributedDataParallel, ModuleProxyWrapper
from small_models import criterion, language_model, sample, translation_model
from torch import nn


def legacy_ddp(model):
    return ModuleProxyWrapper(LegacyDistributedDataParallel(model, process_group=None))


class Foreign(ModuleProxyWrapper):
    """What somebody else wraps around a model."""


def foreign(model):
    return Foreign(LegacyDistributedDataParallel(model, process_group=None))


def subclassed(thing):
    thing.__class__ = type("Subclass", (type(thing),), {})
    return thing


def with_a_decoder_of_a_subclass(model):
    subclassed(model.decoder)
    return model


def subclass_of_the_criterion(**options):
    return subclassed(criterion(**options))


def delegating(**options):
    """A criterion that calls the loss of this one, and may read the logits afterwards."""
    loss = criterion(**options)

    def forward(model, sample):
        net_output = model(**sample["net_input"])
        return loss.compute_loss(model, net_output, sample)

    return forward


def step(model, loss, language_modeling):
    """The logits before and after a training step, and the gradient of their projection."""
    kept = []
    projection = model.decoder.output_projection
    projection.register_forward_hook(lambda *call: kept.extend([call[2].clone(), call[2]]))
    loss(model, sample(language_modeling))[0].backward()
    return kept[0].detach(), kept[1].detach(), projection.weight.grad


@pytest.mark.parametrize(
    ("change", "loss", "options", "is_taken"),
    [
        (lambda model: model, criterion, {}, True),
        (legacy_ddp, criterion, {}, True),
        (lambda model: model, criterion, {"no_inplace": True}, False),
        (nn.Module.eval, criterion, {}, False),
        (foreign, criterion, {}, False),
        (subclassed, criterion, {}, False),
        (with_a_decoder_of_a_subclass, criterion, {}, False),
        (lambda model: model, subclass_of_the_criterion, {}, False),
        (lambda model: model, delegating, {}, False),
    ],
)
@pytest.mark.parametrize(
    ("build", "language_modeling"), [(translation_model, False), (language_model, True)]
)
def test_the_gradient_takes_the_logits_place_in_trainings_by_this_criterion_alone(
    build, language_modeling, change, loss, options, is_taken
):
    before, after, gradient = step(change(build()), loss(**options), language_modeling)
    assert torch.equal(before, after) != is_taken
    *_, expected = step(build(), criterion(no_inplace=True), language_modeling)
    assert torch.equal(gradient, expected)
