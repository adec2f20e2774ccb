import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from el_fairseq.corpora import moses


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("in the U.S.", "in the U.S ."),
        ("plan B.", "plan B ."),
        ("the end.", "the end ."),
        ("so ...", "so ..."),
        ("so..", "so .."),
        (".", "."),
        ("at 5 p.m. sharp", "at 5 p.m. sharp"),
        ("", ""),
    ],
)
def test_one_period_on_the_last_word_becomes_a_token_of_its_own(sentence, expected):
    assert moses.tokenize(sentence, "en") == expected


@given(st.text(alphabet=st.characters(exclude_characters="Σ", exclude_categories=["Cs"])))
def test_lowercasing_is_that_of_python_but_for_the_final_sigma(text):
    assert moses.lowercase(text) == text.lower()


def test_a_final_capital_sigma_becomes_an_ordinary_small_one_as_in_perl():
    perl = subprocess.run(
        ["perl", "-CS", "-pe", "$_ = lc"], input="ΟΔΟΣ İzmir ÄÖẞ", stdout=-1, encoding="utf-8"
    )
    assert moses.lowercase("ΟΔΟΣ İzmir ÄÖẞ") == perl.stdout
