"""The loss in Hugging Face's Trainer, with random models of a few thousand parameters."""

import importlib
import pickle
import sys
import warnings

import pytest
import torch
from conftest import DEVICE
from formula import literal_losses

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer
    from transformers.modeling_outputs import CausalLMOutput, MoeCausalLMOutputWithPast

from el_fairseq import EncouragingLoss
from el_fairseq.integrations.transformers import EncouragingLossMixin, encouraging_loss_func

VOCABULARY, LENGTH = 19, 7
TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "vocab_size": VOCABULARY}
BERT = {
    **{"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2},
    **{"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
}
SIDES = {
    **{f"{side}_layers": 1 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": 8 for side in ("encoder", "decoder")},
    **{f"{side}_attention_heads": 2 for side in ("encoder", "decoder")},
    **{"d_model": 8, "max_position_embeddings": 16, "dropout": 0.0, "init_std": 0.5},
    "decoder_start_token_id": 0,
}
MODELS = {
    "GPT2LMHeadModel": {
        **{"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16},
        **{"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    },
    "LlamaForCausalLM": {
        **{"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2},
        "intermediate_size": 8,
    },
    "MarianMTModel": SIDES,
    "BartForConditionalGeneration": SIDES,
    "BartForCausalLM": {**SIDES, "is_decoder": True, "is_encoder_decoder": False},
    "T5ForConditionalGeneration": {
        **{"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2},
        **{"decoder_start_token_id": 0, "dropout_rate": 0.0},
    },
    "BertForMaskedLM": BERT,
    "BertForSequenceClassification": BERT,
}


@pytest.fixture(autouse=True)
def one_gpu(monkeypatch):
    monkeypatch.setattr(Seq2SeqTrainingArguments, "n_gpu", 1)


class ELTrainer(EncouragingLossMixin, Seq2SeqTrainer):
    pass


def built(name, **options):
    torch.manual_seed(1)
    kind = getattr(transformers, name)
    return kind(kind.config_class(**{**TOKENS, **MODELS[name], **options}))


def examples(name="", first=True):
    """Eight examples whose labels have different lengths; the second has no label at all.

    Without the ``first`` label there is none that GPT-2 does not predict but the Trainer counts.
    """
    if "Classification" in name:
        return [{"input_ids": torch.arange(5) + 3 + n % 2, "label": n % 2} for n in range(8)]
    draw = torch.Generator().manual_seed(2)
    made = []
    for number in range(8):
        tokens = torch.randint(3, VOCABULARY, (LENGTH,), generator=draw)
        labels = tokens.clone()
        labels[0 if number == 1 else 3 + number % 5 :] = -100
        if not first:
            labels[0] = -100
        made.append({"input_ids": tokens, "labels": labels})
    return made


def trainer(model, folder, loss=None, data=None, kind=ELTrainer, metrics=None, **options):
    data = data or examples(type(model).__name__)
    of_training = {
        **{"output_dir": str(folder), "use_cpu": DEVICE == "cpu"},
        **{"report_to": [], "disable_tqdm": True},
        **{"save_strategy": "no", "logging_steps": 1, "optim": "sgd", "learning_rate": 1.0},
        **{"lr_scheduler_type": "constant", "max_steps": 1, "max_grad_norm": 0.0},
        **options,
    }
    return kind(
        model,
        Seq2SeqTrainingArguments(**of_training),
        train_dataset=data,
        eval_dataset=data,
        compute_loss_func=loss,
        compute_metrics=metrics,
    )


def trained(model, folder, loss=None, **options):
    """The first training loss, and all parameters after a step of SGD."""
    model = built(model) if isinstance(model, str) else model
    of_training = trainer(model, folder, loss, **options)
    of_training.train()
    return of_training.state.log_history[0]["loss"], dict(model.named_parameters())


@pytest.mark.parametrize("name", MODELS)
def test_without_the_bonus_a_step_is_that_of_the_models_own_loss(name, tmp_path):
    actual = trained(name, tmp_path, encouraging_loss_func(bonus_weight=0.0))
    expected = trained(name, tmp_path, kind=Trainer)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", ["bf16", *(["fp16"] if DEVICE == "cuda" else [])])
def test_in_half_precision_a_step_is_that_of_single_precision_nearly(precision, tmp_path):
    loss = encouraging_loss_func(bonus_weight=5.0)
    options = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    actual = trained("GPT2LMHeadModel", tmp_path, loss, **{precision: True}, **options)
    expected = trained("GPT2LMHeadModel", tmp_path, loss, **options)
    torch.testing.assert_close(actual, expected, rtol=2e-3, atol=2e-3)
    assert actual != expected


def test_label_smoothing_of_the_training_arguments_is_the_trainers_own_and_applied_once(tmp_path):
    options = {"data": examples(first=False), "label_smoothing_factor": 0.1}
    expected = trained("GPT2LMHeadModel", tmp_path, kind=Trainer, **options)
    for smoothing in (None, 0.1):
        loss = encouraging_loss_func(bonus_weight=0.0, label_smoothing=smoothing)
        actual = trained("GPT2LMHeadModel", tmp_path, loss, **options)
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def shifted(labels):
    return torch.cat([labels[:, 1:], torch.full((len(labels), 1), -100)], 1)


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "LlamaForCausalLM", "MarianMTModel"])
def test_the_loss_is_the_formula_on_the_labels_that_the_model_predicts(name, tmp_path):
    data = examples(first=False)
    batch = {key: torch.stack([example[key] for example in data]) for key in data[0]}
    target = shifted(batch["labels"]) if name != "MarianMTModel" else batch["labels"]
    kept = target != -100
    with torch.no_grad():
        logits = built(name)(**batch).logits[kept]
    expected = literal_losses(logits, target[kept], 0.1, log_end=0.75).mean().item()
    loss = encouraging_loss_func(log_end=0.75, label_smoothing=0.1)
    assert trained(name, tmp_path, loss, data=data)[0] == pytest.approx(expected, rel=1e-4)


def test_the_probe_of_the_first_batch_leaves_random_numbers_alone(tmp_path):
    probed, told = (
        trained(built("GPT2LMHeadModel", resid_pdrop=0.5), tmp_path, loss)
        for loss in (None, encouraging_loss_func(shift_labels=True))
    )
    torch.testing.assert_close(probed, told, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "MarianMTModel", "BartForCausalLM"])
def test_accumulated_batches_give_the_step_of_one_large_batch(name, tmp_path):
    parts = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    actual, expected = trained(name, tmp_path, **parts), trained(name, tmp_path)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "MarianMTModel"])
def test_evaluation_shows_the_loss_of_cross_entropy_beside_its_own(name, tmp_path):
    options = {"per_device_eval_batch_size": 3}
    expected = trainer(built(name), tmp_path, kind=Trainer, **options).evaluate()["eval_loss"]
    of_training = trainer(built(name), tmp_path, **options)
    metrics = of_training.evaluate()
    assert metrics["eval_loss_without_bonus"] == pytest.approx(expected, rel=1e-5)
    assert metrics["eval_loss"] < metrics["eval_loss_without_bonus"]
    logged = of_training.state.log_history[-1]
    assert logged["eval_loss_without_bonus"] == metrics["eval_loss_without_bonus"]
    predicted = of_training.predict(examples()).metrics
    assert predicted["test_loss_without_bonus"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("metrics", [None, lambda prediction: {}])
def test_a_trainer_that_generates_evaluates_the_same_loss(metrics, tmp_path):
    generating = {"predict_with_generate": True, "generation_max_length": 9}
    expected, actual = (
        trainer(built("MarianMTModel"), tmp_path, metrics=metrics, **options).evaluate()
        for options in ({}, generating)
    )
    for name in ("eval_loss", "eval_loss_without_bonus"):
        assert actual[name] == pytest.approx(expected[name], rel=1e-5)


def test_without_the_mixin_a_trainer_is_told_whether_labels_are_shifted(tmp_path):
    name = "GPT2LMHeadModel"
    told = trained(name, tmp_path, encouraging_loss_func(shift_labels=True), kind=Trainer)
    torch.testing.assert_close(told, trained(name, tmp_path), rtol=1e-5, atol=1e-6)
    loss = encouraging_loss_func(bonus_weight=0.0)  # a classifier has nothing to be told
    actual, expected = (
        trained("BertForSequenceClassification", tmp_path, loss, kind=kind)
        for kind in (Trainer, ELTrainer)
    )
    torch.testing.assert_close(actual, expected)


class OwnLoss(transformers.GPT2LMHeadModel):
    def forward(self, input_ids, labels=None):
        output = super().forward(input_ids, labels=labels)
        if labels is not None:
            output.loss = output.loss * 1.01
        return output


class OwnTrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        return (outputs.loss, outputs) if return_outputs else outputs.loss


class ELOwnTrainer(EncouragingLossMixin, OwnTrainer):
    pass


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        (None, {"kind": ELOwnTrainer}, "computes its own loss and does not call"),
        (
            encouraging_loss_func(label_smoothing=0.0),
            {"label_smoothing_factor": 0.1},
            r"label_smoothing is 0.0 but .*factor is 0.1",
        ),
        (encouraging_loss_func, {}, "expected encouraging_loss_func.*, a call with"),
        (EncouragingLoss(), {}, "compute_loss_func is EncouragingLoss.*expected"),
        (encouraging_loss_func(), {"kind": Trainer}, r"Give .*shift_labels=True.*LossMixin"),
    ],
)
def test_what_would_train_otherwise_is_refused(loss, options, message, tmp_path):
    with pytest.raises((TypeError, ValueError), match=f"{message}.*$"):
        trained("GPT2LMHeadModel", tmp_path, loss, **options)


def test_models_trainers_and_machines_that_it_does_not_fit_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="the loss of OwnLoss is not the mean cross-entropy"):
        trained(OwnLoss(built("GPT2LMHeadModel").config), tmp_path)
    with pytest.raises(TypeError, match="name the mixin first"):
        type("Late", (Trainer, EncouragingLossMixin), {})
    monkeypatch.setattr(Seq2SeqTrainingArguments, "n_gpu", 2)
    with pytest.raises(ValueError, match="torchrun --nproc_per_node 2"):
        trainer(built("GPT2LMHeadModel"), tmp_path)


@pytest.mark.parametrize(
    ("output", "labels", "message"),
    [
        (CausalLMOutput(logits=torch.zeros(1, 3, 5)), None, "no labels"),
        (CausalLMOutput(), torch.zeros(1, 3), "CausalLMOutput without logits"),
        ((torch.zeros(1, 3, 5),), torch.zeros(1, 3), "tuple without logits"),
        (
            MoeCausalLMOutputWithPast(logits=torch.zeros(1, 3, 5), aux_loss=torch.ones(())),
            torch.zeros(1, 3),
            "output_router_logits",
        ),
    ],
)
def test_outputs_that_cannot_be_served_are_refused_with_what_to_do(output, labels, message):
    with pytest.raises(ValueError, match=message):
        encouraging_loss_func()(output, labels)


def test_by_hand_it_takes_the_mean_and_labels_that_are_shifted_as_told():
    logits, labels = torch.randn(2, 3, 5), torch.tensor([[1, 2, -100], [3, 4, 0]])
    output = CausalLMOutput(logits=logits)
    loss = encouraging_loss_func(shift_labels=False)
    told = loss(output, labels)
    kept = labels != -100
    expected = literal_losses(logits[kept], labels[kept]).mean().float()
    torch.testing.assert_close(told, expected)
    shifting = encouraging_loss_func(shift_labels=True)
    torch.testing.assert_close(shifting(output, labels), loss(output, shifted(labels)))
    assert loss(output, torch.full((2, 3), -100), num_items_in_batch=0) == 0
    assert torch.equal(pickle.loads(pickle.dumps(loss))(output, labels), told)
    for option, value in (("label_smoothing", "0.1"), ("shift_labels", "no")):
        with pytest.raises(ValueError, match=f"{option} is '{value}', expected "):
            encouraging_loss_func(**{option: value})


def test_a_missing_transformers_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, EncouragingLossMixin.__module__)
    with pytest.raises(ImportError, match=r"needs transformers.* pip install '\.\[transformers\]'"):
        importlib.import_module(EncouragingLossMixin.__module__)
