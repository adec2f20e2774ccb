import numpy as np

from el_fairseq.report import formula


def test_the_gradient_that_is_drawn_fades_for_ce_and_stays_up_to_the_log_end_for_el(call, tmp_path):
    p, loss, gradient = formula.curves(0, 0.5)
    np.testing.assert_allclose(gradient, 1 - p, atol=1e-9)
    np.testing.assert_allclose(loss, -np.log(p), atol=1e-9)
    p, loss, gradient = formula.curves(1, 0.75)
    np.testing.assert_allclose(gradient[p < 0.75], 1, atol=1e-6)
    assert (gradient[p > 0.76] < 1).all() and loss.min() > np.log(0.25) - 1
    call(formula.main, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
