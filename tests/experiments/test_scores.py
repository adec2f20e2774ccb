import pytest
import sacrebleu

from el_fairseq.common.cli import UserError
from el_fairseq.experiments import scores as module
from el_fairseq.experiments.scores import Score, Translation, hypotheses, scores


def generated(tmp_path, *numbers):
    path = tmp_path / "generate-test.txt"
    lines = [f"S-{n}\tquelle\nT-{n}\ttarget\nH-{n}\t-0.5\thypothesis {n}\n" for n in numbers]
    path.write_text("".join(lines) + "Generate test with beam=5: BLEU4 = 23.45, 60.1/30.0 (BP=1)\n")
    return path


def test_hypotheses_come_in_the_order_of_the_test_set(tmp_path):
    path = generated(tmp_path, 2, 0, 1)
    assert hypotheses(path, 3) == ["hypothesis 0", "hypothesis 1", "hypothesis 2"]


def test_an_empty_hypothesis_is_kept(tmp_path):
    path = tmp_path / "generate-test.txt"
    path.write_text("H-0\t-0.5\t\nH-1\t-0.5\ttext\n")
    assert hypotheses(path, 2) == ["", "text"]


def test_a_part_is_not_scored_and_the_missing_sentences_are_named(tmp_path):
    path = generated(tmp_path, 0, 3)
    with pytest.raises(UserError, match=r"2 translations for 4 references; .* 1, 2 are missing"):
        hypotheses(path, 4)


def test_more_hypotheses_than_references_are_not_scored(tmp_path):
    with pytest.raises(UserError, match="3 translations for 2 references"):
        hypotheses(generated(tmp_path, 0, 1, 2), 2)


def test_scores_are_those_of_sacrebleu_and_carry_its_signatures():
    translations = ["The light is on.", "Enter the host name of the device."]
    references = ["The lamp is on.", "Enter the host name of your device."]
    result = scores(Translation(references, translations, references, "en"))
    assert result["bleu"] == round(sacrebleu.corpus_bleu(translations, [references]).score, 2)
    assert result["chrf"] == round(sacrebleu.corpus_chrf(translations, [references]).score, 2)
    assert "tok:13a" in result["bleu_signature"]
    assert "nc:6" in result["chrf_signature"]


def test_the_tokenized_bleu_is_the_one_that_fairseq_printed(tmp_path):
    texts = ["a"], ["a"], ["a"]
    assert scores(Translation(*texts, "en", generated(tmp_path, 0)))["tokenized_bleu"] == 23.45
    assert "tokenized_bleu" not in scores(Translation(*texts, "en"))
    assert "tokenized_bleu" not in scores(Translation(*texts, "zh", generated(tmp_path, 0)))


def test_the_tokenizers_of_the_scores_follow_the_target_language():
    chinese = Translation([], ["\u6211\u4eec\u559c\u6b22\u97f3\u4e50\u3002"] * 2, [], "zh")
    references = ["\u6211\u4eec\u559c\u7231\u97f3\u4e50\u3002"] * 2
    found = scores(Translation([], chinese.hypotheses, references, "zh"))
    expected = sacrebleu.corpus_bleu(chinese.hypotheses, [references], tokenize="zh").score
    assert found["bleu"] == round(expected, 2) > 0
    assert "tok:zh" in found["bleu_signature"] and "asian:yes" in found["ter_signature"]


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
