"""The criterion under fairseq's precisions: it trains as its cross-entropy does in each."""

import pytest
import torch
from old_torch import needs_half
from small_models import criterion, cross_entropy, sample, train_once, translation_model
from trainings import ENCODER_DECODER, configuration, train, with_criterion

# As fairseq-train's options of these names; flat gradients of --fp16 want a GPU's memory, and
# fairseq-train takes --bf16 for a TPU's.
ON_A_CPU = {
    "--amp": {"amp": True},
    "--fp16": {"fp16": True, "fp16_no_flatten_grads": True},
    "--memory-efficient-fp16": {"fp16": True, "memory_efficient_fp16": True},
    "--bf16": {"bf16": True},
    "--memory-efficient-bf16": {"bf16": True, "memory_efficient_bf16": True},
}


@pytest.fixture(scope="module")
def cfg(small):
    return configuration(small / "bin", "--arch", "transformer", *ENCODER_DECODER)


@pytest.mark.parametrize(
    "precision", [pytest.param(p, marks=[needs_half] if "fp16" in p else []) for p in ON_A_CPU]
)
def test_each_precision_trains_and_with_the_bonus_off_as_fairseqs_cross_entropy(cfg, precision):
    def logged(name, **options):
        chosen = with_criterion(cfg, name, **options)
        chosen.common.update(ON_A_CPU[precision])
        logs = train(chosen, updates=3)["logs"]
        return [log[key] for log in logs for key in ("loss", "nll_loss", "gnorm")]

    tolerance = {"rel": 0.02 if "bf16" in precision else 2e-3}
    expected = logged("label_smoothed_cross_entropy")
    off = logged("encouraging_loss", bonus_weight=0.0)
    assert off == pytest.approx(expected, **tolerance)
    encouraged = logged("encouraging_loss")
    assert encouraged[0] < expected[0]
    assert encouraged[1] == pytest.approx(expected[1], **tolerance)
    for options in ({"fused_projection": True}, {"no_inplace": True}):
        assert logged("encouraging_loss", **options) == pytest.approx(encouraged, **tolerance)


@pytest.mark.parametrize(
    "dtype", [pytest.param(torch.float16, marks=needs_half), torch.bfloat16], ids=str
)
@pytest.mark.parametrize("fused", [False, True])
def test_half_precision_gradients_are_as_close_to_the_true_ones_as_cross_entropys(dtype, fused):
    """What --fp16 does on a GPU: model and loss in half, the loss scaled before backward."""

    def error(build, **options):
        model = translation_model()
        true = train_once(build(), model, sample())["gradients"]
        half = train_once(build(**options), model.to(dtype), sample())["gradients"]
        return max(
            ((half[name].double() - true[name]).norm() / true[name].norm()).item()
            for name in true
            if true[name].norm() > 1e-6
        )

    options = {"fused_projection": True} if fused else {}
    assert error(criterion, **options) < 2 * error(cross_entropy) + torch.finfo(dtype).eps
