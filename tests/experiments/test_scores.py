import pytest

from el_fairseq.common.cli import UserError
from el_fairseq.experiments import scores as module
from el_fairseq.experiments.scores import Score, Translation, hypotheses, scores


def generated(tmp_path, *lines):
    path = tmp_path / "generate-test.txt"
    text = "".join(f"S-{n}\tquelle\nT-{n}\ttarget\nH-{n}\t-0.5\t{line}\n" for n, line in lines)
    path.write_text(text + "Generate test with beam=5: BLEU4 = 23.45, 60.1/30.0 (BP=1)\n")
    return path


def test_hypotheses_come_in_the_order_of_the_test_set_an_empty_one_among_them(tmp_path):
    path = generated(tmp_path, (2, "c"), (0, ""), (1, "b"))
    assert hypotheses(path, 3) == ["", "b", "c"]


@pytest.mark.parametrize(
    ("count", "reason"),
    [(4, "2 translations for 4 references .*: 1, 2\\)"), (1, "2 translations for 1 refe")],
)
def test_a_part_or_more_than_the_test_set_is_not_scored(tmp_path, count, reason):
    with pytest.raises(UserError, match=reason):
        hypotheses(generated(tmp_path, (0, "a"), (3, "d")), count)


def test_the_tokenized_bleu_is_the_one_that_fairseq_printed(tmp_path):
    texts = ["a"], ["a"], ["a"]
    assert (
        scores(Translation(*texts, "en", generated(tmp_path, (0, "a"))))["tokenized_bleu"] == 23.45
    )
    assert "tokenized_bleu" not in scores(Translation(*texts, "en"))
    assert "tokenized_bleu" not in scores(Translation(*texts, "zh", generated(tmp_path, (0, "a"))))


@pytest.mark.parametrize(
    ("language", "hypothesis", "reference", "signatures"),
    [
        ("zh", "我喜欢机器翻译系统。", "我喜爱机器翻译系统。", ("tok:zh", "asian:yes")),
        ("th", "ผมชอบกินข้าวผัด", "ผมชอบกินข้าวต้ม", ("tok:char", "asian:no")),
    ],
)
def test_a_translation_into_a_language_without_spaces_that_is_off_by_a_character_is_not_all_wrong(
    language, hypothesis, reference, signatures
):
    result = scores(Translation([], [hypothesis], [reference], language))
    assert result["bleu"] > 50 and 0 < result["ter"] < 50
    assert signatures[0] in result["bleu_signature"] and signatures[1] in result["ter_signature"]


def test_a_score_is_added_by_one_entry_and_one_function(monkeypatch):
    def length_ratio(translation):
        words = [
            sum(len(line.split()) for line in lines)
            for lines in (translation.hypotheses, translation.references)
        ]
        return 100 * words[0] / words[1], "words"

    added = Score("length", "length", True, "{:.1f}", "ours", length_ratio)
    monkeypatch.setattr(module, "SCORES", [*module.SCORES, added])
    found = scores(Translation(["x"], ["a b"], ["a b c d"], "en"))
    assert (found["length"], found["length_signature"]) == (50.0, "words")
    assert any(line.startswith("length") and "50.0" in line for line in module.shown(found))
