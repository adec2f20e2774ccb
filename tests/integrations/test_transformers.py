"""The loss in Hugging Face's Trainer, with random models of a few thousand parameters."""

import pickle
import subprocess
import sys
import warnings

import pytest
import torch
from formula import literal_losses

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from transformers import (
        BartConfig,
        BartForCausalLM,
        BartForConditionalGeneration,
        BertConfig,
        BertForMaskedLM,
        BertForSequenceClassification,
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        MarianConfig,
        MarianMTModel,
        Seq2SeqTrainer,
        Seq2SeqTrainingArguments,
        T5Config,
        T5ForConditionalGeneration,
        Trainer,
        TrainingArguments,
    )
    from transformers.modeling_outputs import CausalLMOutput, MoeCausalLMOutputWithPast

from el_fairseq import EncouragingLoss
from el_fairseq.integrations.transformers import EncouragingLossMixin, encouraging_loss_func

VOCABULARY, LENGTH = 19, 7
SMALL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "vocab_size": VOCABULARY}


class ELTrainer(EncouragingLossMixin, Trainer):
    pass


class ELSeq2SeqTrainer(EncouragingLossMixin, Seq2SeqTrainer):
    pass


def language_model():
    torch.manual_seed(1)
    sizes = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16}
    drop = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(**SMALL, **sizes, **drop))


def translation_model(config=MarianConfig, model=MarianMTModel, **options):
    torch.manual_seed(1)
    sides = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in [("layers", 1), ("ffn_dim", 8), ("attention_heads", 2)]
    }
    others = {"d_model": 8, "max_position_embeddings": 16, "dropout": 0.0, "init_std": 0.5}
    return model(config(**SMALL, **sides, **others, decoder_start_token_id=0, **options))


def decoder_alone():
    return translation_model(BartConfig, BartForCausalLM, is_decoder=True, is_encoder_decoder=False)


def t5():
    torch.manual_seed(1)
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    options = {**SMALL, "eos_token_id": 2, "decoder_start_token_id": 0, "dropout_rate": 0.0}
    return T5ForConditionalGeneration(T5Config(**options, **sizes))


def bert(model=BertForMaskedLM):
    torch.manual_seed(1)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    drop = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return model(BertConfig(vocab_size=VOCABULARY, intermediate_size=8, **sizes, **drop))


def llama():
    torch.manual_seed(1)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**SMALL, **sizes, intermediate_size=8))


BUILDS = {
    "GPT2LMHeadModel": language_model,
    "LlamaForCausalLM": llama,
    "MarianMTModel": translation_model,
    "T5": t5,
    "Bart": lambda: translation_model(BartConfig, BartForConditionalGeneration),
    "BartForCausalLM": decoder_alone,
    "BertForMaskedLM": bert,
}


def examples(count=8, first=True):
    """Examples whose labels have different lengths; the second has no label at all.

    Without the ``first`` label there is none that GPT-2 does not predict but the Trainer counts.
    """
    draw = torch.Generator().manual_seed(2)
    made = []
    for number in range(count):
        tokens = torch.randint(3, VOCABULARY, (LENGTH,), generator=draw)
        labels = tokens.clone()
        labels[3 + number % 5 :] = -100
        if number == 1:
            labels[:] = -100
        if not first:
            labels[0] = -100
        made.append({"input_ids": tokens, "labels": labels})
    return made


def trainer(model, folder, loss=None, data=None, kind=ELTrainer, **options):
    options = {"per_device_train_batch_size": 8, "max_steps": 1, "max_grad_norm": 0.0, **options}
    metrics = options.pop("compute_metrics", None)
    is_seq2seq = issubclass(kind, Seq2SeqTrainer)
    arguments = (Seq2SeqTrainingArguments if is_seq2seq else TrainingArguments)(
        output_dir=str(folder),
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_steps=1,
        optim="sgd",
        learning_rate=1.0,
        lr_scheduler_type="constant",
        disable_tqdm=True,
        **options,
    )
    data = data or examples()
    return kind(
        model,
        arguments,
        train_dataset=data,
        eval_dataset=data,
        compute_loss_func=loss,
        compute_metrics=metrics,
    )


def trained(build, folder, loss=None, data=None, **options):
    """The first training loss, and all parameters after the steps of a training by SGD."""
    model = build()
    of_training = trainer(model, folder, loss, data, **options)
    of_training.train()
    return of_training.state.log_history[0]["loss"], dict(model.named_parameters())


@pytest.mark.parametrize("model", BUILDS)
def test_without_the_bonus_a_step_is_that_of_the_models_own_loss(model, tmp_path):
    build = BUILDS[model]
    actual = trained(build, tmp_path, encouraging_loss_func(bonus_weight=0.0))
    expected = trained(build, tmp_path, kind=Trainer)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_label_smoothing_of_the_training_arguments_is_the_trainers_own_and_applied_once(tmp_path):
    options = {"data": examples(first=False), "label_smoothing_factor": 0.1}
    expected = trained(language_model, tmp_path, kind=Trainer, **options)
    for smoothing in (None, 0.1):
        loss = encouraging_loss_func(bonus_weight=0.0, label_smoothing=smoothing)
        actual = trained(language_model, tmp_path, loss, **options)
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def shifted(labels):
    return torch.cat([labels[:, 1:], torch.full((len(labels), 1), -100)], 1)


@pytest.mark.parametrize("model", BUILDS)
def test_the_loss_is_the_formula_on_the_labels_that_the_model_predicts(model, tmp_path):
    build = BUILDS[model]
    data = examples(first=False)
    batch = {name: torch.stack([example[name] for example in data]) for name in data[0]}
    target = batch["labels"]
    if model in ("GPT2LMHeadModel", "LlamaForCausalLM"):
        target = shifted(target)
    kept = target != -100
    with torch.no_grad():
        logits = build()(**batch).logits[kept]
    expected = literal_losses(logits, target[kept], 0.75, 0.1).mean().item()
    loss = encouraging_loss_func(log_end=0.75, label_smoothing=0.1)
    assert trained(build, tmp_path, loss, data=data)[0] == pytest.approx(expected, rel=1e-4)


def test_the_probe_of_the_first_batch_leaves_random_numbers_alone(tmp_path):
    def build():
        model = language_model()
        model.config.resid_pdrop = 0.5
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.5
        return model

    probed = trained(build, tmp_path)
    told = trained(build, tmp_path, encouraging_loss_func(shift_labels=True))
    torch.testing.assert_close(probed, told, rtol=0, atol=0)


@pytest.mark.parametrize("model", ["GPT2LMHeadModel", "MarianMTModel", "BartForCausalLM"])
def test_accumulated_batches_give_the_step_of_one_large_batch(model, tmp_path):
    whole = trained(BUILDS[model], tmp_path)
    parts = trained(
        BUILDS[model], tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=4
    )
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model", ["GPT2LMHeadModel", "MarianMTModel"])
def test_evaluation_shows_the_loss_of_cross_entropy_beside_its_own(model, tmp_path):
    options = {"per_device_eval_batch_size": 3}
    expected = trainer(BUILDS[model](), tmp_path, kind=Trainer, **options).evaluate()["eval_loss"]
    of_training = trainer(BUILDS[model](), tmp_path, **options)
    metrics = of_training.evaluate()
    assert metrics["eval_loss_without_bonus"] == pytest.approx(expected, rel=1e-5)
    assert metrics["eval_loss"] < metrics["eval_loss_without_bonus"]
    logged = of_training.state.log_history[-1]
    assert logged["eval_loss_without_bonus"] == metrics["eval_loss_without_bonus"]
    predicted = of_training.predict(examples()).metrics
    assert predicted["test_loss_without_bonus"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("metrics", [None, lambda prediction: {}])
def test_a_seq2seq_trainer_that_generates_evaluates_the_same_loss(metrics, tmp_path):
    def evaluated(**options):
        return trainer(
            translation_model(), tmp_path, kind=ELSeq2SeqTrainer, compute_metrics=metrics, **options
        ).evaluate()

    expected = evaluated()
    generating = evaluated(predict_with_generate=True, generation_max_length=9)
    for name in ("eval_loss", "eval_loss_without_bonus"):
        assert generating[name] == pytest.approx(expected[name], rel=1e-5)


def test_half_precision_comes_near_single_precision(tmp_path):
    single = trained(language_model, tmp_path)
    half = trained(language_model, tmp_path, bf16=True)
    assert half[0] == pytest.approx(single[0], rel=1e-2)
    torch.testing.assert_close(half[1], single[1], rtol=0.05, atol=0.02)


@pytest.mark.parametrize("kind", [ELTrainer, Trainer])
def test_classifiers_are_served(kind, tmp_path):
    data = [{"input_ids": torch.arange(5) + 3 + n % 2, "label": n % 2} for n in range(8)]
    loss = encouraging_loss_func(bonus_weight=0.0)
    actual = trained(lambda: bert(BertForSequenceClassification), tmp_path, loss, data, kind=kind)
    expected = trained(
        lambda: bert(BertForSequenceClassification), tmp_path, data=data, kind=Trainer
    )
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("model", ["GPT2LMHeadModel", "BartForCausalLM"])
def test_a_plain_trainer_is_told_whether_labels_are_shifted(model, tmp_path):
    shift = model == "GPT2LMHeadModel"
    told = trained(BUILDS[model], tmp_path, encouraging_loss_func(shift_labels=shift), kind=Trainer)
    found = trained(BUILDS[model], tmp_path, encouraging_loss_func())
    # The Trainer counts the first label as predicted or not by the name of the model's class.
    assert told[0] == pytest.approx(found[0], rel=1e-5 if shift else 0.5)
    with pytest.raises(ValueError, match=r"say so: .*shift_labels=True.*EncouragingLossMixin"):
        trained(BUILDS[model], tmp_path, encouraging_loss_func(), kind=Trainer)


class OwnLoss(GPT2LMHeadModel):
    def __init__(self):
        super().__init__(language_model().config)

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


def test_a_mixin_that_would_come_too_late_is_refused():
    with pytest.raises(TypeError, match="name the mixin first"):
        type("Late", (Trainer, EncouragingLossMixin), {})


@pytest.mark.parametrize(
    ("build", "loss", "options", "message"),
    [
        (OwnLoss, None, {}, "the loss of OwnLoss is not the mean cross-entropy of its labels"),
        (language_model, None, {"kind": ELOwnTrainer}, "computes a loss of its own and asks"),
        (
            language_model,
            encouraging_loss_func(label_smoothing=0.0),
            {"label_smoothing_factor": 0.1},
            r"label_smoothing is 0.0 but .*factor is 0.1",
        ),
        (language_model, encouraging_loss_func, {}, "expected encouraging_loss_func.., with par"),
        (language_model, EncouragingLoss(), {}, "compute_loss_func is EncouragingLoss.*expected"),
    ],
)
def test_what_would_train_otherwise_is_refused(build, loss, options, message, tmp_path):
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        trained(build, tmp_path, loss, **options)
    assert "\n" not in str(caught.value)


def test_several_gpus_in_one_process_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingArguments, "n_gpu", 2)
    with pytest.raises(ValueError, match="torchrun --nproc_per_node 2"):
        trainer(language_model(), tmp_path)


@pytest.mark.parametrize(
    ("output", "labels", "message"),
    [
        (CausalLMOutput(logits=torch.zeros(1, 3, 5)), None, "no labels"),
        (CausalLMOutput(), torch.zeros(1, 3), "CausalLMOutput without logits"),
        ((torch.zeros(1, 3, 5),), torch.zeros(1, 3), "tuple without logits"),
        (CausalLMOutput(logits=torch.zeros(1, 3, 5)), torch.zeros(1, 3), "shift_labels=True"),
        (CausalLMOutput(logits=torch.zeros(3, 5)), torch.zeros(2).long(), r"shape \(2,\)"),
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


def test_wrong_options_are_refused_at_once():
    for option, value in (("label_smoothing", "0.1"), ("shift_labels", "no")):
        with pytest.raises(ValueError, match=f"{option} is '{value}', expected "):
            encouraging_loss_func(**{option: value})


def test_transformers_is_imported_when_asked_for_and_a_missing_one_is_named():
    program = (
        "import sys; sys.modules['fairseq'] = None; import el_fairseq; "
        "assert 'transformers' not in sys.modules; sys.modules['transformers'] = None; "
        "import el_fairseq.integrations.transformers"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    last = result.stderr.splitlines()[-1]
    assert last.startswith("ImportError: el_fairseq.integrations.transformers needs transformers")
    assert "pip install '.[transformers]'" in last
