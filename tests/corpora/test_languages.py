import pytest
import sacrebleu

from el_fairseq.common.cli import UserError
from el_fairseq.corpora import languages, moses


@pytest.mark.parametrize(
    ("codes", "tokenizer"),
    [
        (("zh", "zh_CN", "ZH_tw", "zho_Hans", "zh-TW", "yue"), "zh"),
        (("th", "khm_Khmr", "lo", "my", "mya"), "char"),
        (("de", "en_GB", "thv", "zha", "kor1"), "13a"),
    ],
)
def test_the_tokenizer_of_scores_follows_the_target_language(codes, tokenizer):
    assert {languages.sacrebleu_tokenizer(code) for code in codes} == {tokenizer}
    assert {languages.writes_without_spaces(code) for code in codes} == {tokenizer != "13a"}


@pytest.mark.parametrize("language", ["ja", "ko"])
def test_a_tokenizer_that_needs_a_package_is_chosen_or_the_package_asked_for(monkeypatch, language):
    with pytest.raises(
        UserError, match=rf"into {language}: .* pip install sacrebleu\[{language}\]"
    ):
        languages.sacrebleu_tokenizer(language)
    monkeypatch.setattr(sacrebleu.metrics, "BLEU", dict)
    assert languages.sacrebleu_tokenizer(language) == f"{language}-mecab"


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("zh", "他很好！我喜欢Python 3，“你好”。"),
        ("ja", "私は猫です。Hello Worldと言う。"),
        ("th", "ผมชอบกินข้าว"),
        ("ko", "나는 학생 입니다."),
    ],
)
def test_detokenizing_gives_back_what_moses_tokenized(language, text):
    assert moses.detokenized([moses.tokenize(text, language)], language) == [text]


def test_detokenizing_puts_no_spaces_between_chinese_characters():
    assert moses.detokenized(["我 喜欢 机器 翻译 ， 很 好 。"], "zh") == ["我喜欢机器翻译，很好。"]
