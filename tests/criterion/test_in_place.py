"""The gradient takes the logits' place where nobody else can hold them, and nowhere else."""

import functools

import pytest
import torch
from fairseq.distributed import LegacyDistributedDataParallel, ModuleProxyWrapper
from fairseq.models.transformer import TransformerDecoder, TransformerModel
from small_models import criterion, language_model, sample, translation_model
from torch import nn

import el_fairseq.criterion
from el_fairseq.criterion import EncouragingLossCriterion
from el_fairseq.fairseq_models import comes_from_projection


@pytest.fixture
def taken(monkeypatch):
    """Whether each loss computed since may take the logits' place."""
    asked = []
    loss_of_rows = el_fairseq.criterion.loss_of_rows

    def spy(scores, target, spec, reduction, in_place, class_weight):
        asked.append(in_place)
        return loss_of_rows(scores, target, spec, reduction, in_place, class_weight)

    monkeypatch.setattr(el_fairseq.criterion, "loss_of_rows", spy)
    return asked


def legacy_ddp(model):
    return ModuleProxyWrapper(LegacyDistributedDataParallel(model, process_group=None))


@pytest.mark.parametrize(
    ("build", "language_modeling", "wrap"),
    [
        (translation_model, False, lambda model: model),
        (language_model, True, lambda model: model),
        (translation_model, False, legacy_ddp),
    ],
    ids=["translation", "language model", "legacy_ddp"],
)
def test_in_trainings_of_fairseqs_transformers_it_takes_their_place(
    build, language_modeling, wrap, taken
):
    criterion()(wrap(build()), sample(language_modeling))[0].backward()
    criterion(no_inplace=True)(wrap(build()), sample(language_modeling))[0].backward()
    assert taken == [True, False]


class KeepingModel(TransformerModel):
    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        self.keep(output[0].detach())
        return output


class KeepingDecoder(TransformerDecoder):
    def output_layer(self, features):
        logits = super().output_layer(features)
        self.keep(logits)
        return logits


class KeepingWrapper(nn.Module):
    def __init__(self, module, keep):
        super().__init__()
        self.module, self.keep = module, keep

    def forward(self, *args, **kwargs):
        output = self.module(*args, **kwargs)
        self.keep(output[0].detach())
        return output

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.module, name)


class KeepingCriterion(EncouragingLossCriterion):
    def compute_loss(self, model, net_output, sample, reduce=True):
        self.keep(net_output[0].detach())
        return super().compute_loss(model, net_output, sample, reduce)


def hooked(part):
    def set_up(model, criterion, keep, monkeypatch):
        module = {
            "model": model,
            "decoder": model.decoder,
            "projection": model.decoder.output_projection,
        }[part]
        module.register_forward_hook(
            lambda _, inputs, output: keep(output if torch.is_tensor(output) else output[0])
        )
        return model, criterion

    return set_up


def hooked_everywhere(model, criterion, keep, monkeypatch):
    def look(module, inputs, output):
        if module is model:
            keep(output[0].detach())

    handle = nn.modules.module.register_module_forward_hook(look)
    monkeypatch.callback = handle.remove
    return model, criterion


def subclassed(model, criterion, keep, monkeypatch):
    model.__class__, model.keep = KeepingModel, keep
    return model, criterion


def with_a_decoder_of_its_own(model, criterion, keep, monkeypatch):
    model.decoder.__class__, model.decoder.keep = KeepingDecoder, keep
    return model, criterion


def replaced_on_the_object(model, criterion, keep, monkeypatch):
    output_layer = model.decoder.output_layer

    def keeping(features):
        logits = output_layer(features)
        keep(logits.detach())
        return logits

    model.decoder.output_layer = keeping
    return model, criterion


def replaced_on_the_class(model, criterion, keep, monkeypatch):
    forward = TransformerModel.forward

    @functools.wraps(forward)
    def keeping(self, *args, **kwargs):
        output = forward(self, *args, **kwargs)
        keep(output[0].detach())
        return output

    monkeypatch.setattr(TransformerModel, "forward", keeping)
    return model, criterion


def wrapped(model, criterion, keep, monkeypatch):
    return KeepingWrapper(model, keep), criterion


def criterion_subclassed(model, criterion, keep, monkeypatch):
    criterion.__class__, criterion.keep = KeepingCriterion, keep
    return model, criterion


def criterion_replaced(model, criterion, keep, monkeypatch):
    compute_loss = criterion.compute_loss

    def keeping(model, net_output, sample, reduce=True):
        keep(net_output[0].detach())
        return compute_loss(model, net_output, sample, reduce)

    criterion.compute_loss = keeping
    return model, criterion


@pytest.mark.parametrize(
    "set_up",
    [
        *(pytest.param(hooked(p), id=f"hooked_{p}") for p in ("model", "decoder", "projection")),
        *(hooked_everywhere, subclassed, with_a_decoder_of_its_own, replaced_on_the_object),
        *(replaced_on_the_class, wrapped, criterion_subclassed, criterion_replaced),
    ],
)
def test_whoever_keeps_the_logits_keeps_logits(set_up, monkeypatch):
    expected = translation_model()(**sample()["net_input"])[0].detach()
    kept = []
    monkeypatch.callback = lambda: None
    model, loss = set_up(translation_model(), criterion(), kept.append, monkeypatch)
    try:
        loss(model, sample())[0].backward()
    finally:
        monkeypatch.callback()
    assert torch.equal(kept[0].detach(), expected)


def test_a_loss_of_the_models_own_on_its_logits_can_be_differentiated():
    class WithAuxiliaryLoss(TransformerModel):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            self.auxiliary = output[0].logsumexp(-1).square().sum()
            return output

    gradients = []
    for no_inplace in (False, True):
        model = translation_model()
        model.__class__ = WithAuxiliaryLoss
        loss = criterion(no_inplace=no_inplace)(model, sample())[0]
        (loss + model.auxiliary).backward()
        gradients.append(model.decoder.output_projection.weight.grad)
    assert torch.equal(*gradients)


def test_a_criterion_that_delegates_the_loss_reads_logits_afterwards():
    class Delegating(nn.Module):
        def __init__(self):
            super().__init__()
            self.loss = criterion()

        def forward(self, model, sample):
            net_output = model(**sample["net_input"])
            loss, _ = self.loss.compute_loss(model, net_output, sample)
            loss.backward()
            return net_output[0].detach()

    expected = translation_model()(**sample()["net_input"])[0]
    assert torch.equal(Delegating()(translation_model(), sample()), expected)


def test_in_validation_the_logits_stay_what_they_are(taken):
    with torch.no_grad():
        criterion()(translation_model().eval(), sample())
    assert taken == [False]  # a tensor without a graph comes from no projection


def test_logits_that_another_operation_saved_or_scaled_are_not_overwritten():
    hidden = torch.randn(2, 3, 8, requires_grad=True)
    projection = nn.Linear(8, 5)
    assert comes_from_projection(projection(hidden))
    assert comes_from_projection(nn.Linear(8, 5, bias=False)(hidden).view(6, 5))
    for other in (torch.tanh, torch.exp, lambda x: x * 2, lambda x: x.clone()):
        assert not comes_from_projection(other(projection(hidden)))
    assert not comes_from_projection(hidden)
