import sys

import pytest
from conftest import run

from el_fairseq.common.cli import needs_extra


def test_a_terminal_that_lacks_a_character_still_gets_the_rest():
    code = "from el_fairseq.common.cli import run; run(lambda: print('gr\\u00fcn \\udcff 1'))"
    result = run([sys.executable, "-c", code], env={"PYTHONIOENCODING": "ascii"})
    assert (result.returncode, result.stdout) == (0, "gr?n ? 1\n")


@pytest.mark.parametrize(("module", "extra"), [("jinja2", "scripts"), ("fairseq", "fairseq")])
def test_a_missing_extra_ends_a_program_in_one_line_that_says_what_to_install(module, extra):
    with pytest.raises(SystemExit) as ended, needs_extra("scripts"):
        raise ModuleNotFoundError(name=module)
    assert ended.value.code == (
        f"error: there is no {module} here: pip install '.[{extra}]' in el-fairseq's folder"
    )
