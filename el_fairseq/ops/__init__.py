"""The encouraging loss of rows of logits, three times: ``reference``, ``cpu`` and ``gpu``.

``p`` is the softmax of a row of ``V`` logits, ``b`` the bonus, ``w`` its weight and ``q`` the
target distribution: ``q_k = eps / V``, plus ``1 - eps`` for the target. With class weights, each
``q_k`` is multiplied by that of its class. The loss is

    sum_k q_k (-log p_k + w b(p_k))

and its derivative with respect to logit ``j``, with ``dp_k/dz_j = p_k ([k = j] - p_j)``,

    p_j S - q_j h_j,    h_k = 1 - w p_k b'(p_k),    S = sum_k q_k h_k.

The *slope* of the bonus, ``-p b'(p)``, is ``p / (1 - p)`` on the log curve and
``p / (1 - log_end)`` beyond, so the gradient needs no logarithm. The sum of the bonus over the
classes needs one logarithm a row: ``sum_k log(1 - p_k)`` is the logarithm of a product. Beyond the
log end, the curve's last value is a factor of this product, and the tangent adds to a sum. So each
entry costs one exponential, ``e_k``, relative to the largest logit.

For accuracy, the kernels keep ``R``, the sum of all ``e_k`` minus 1. It is the sum of those below
1, plus the number of those equal to 1, minus 1. Then ``p_k = e_k / (1 + R)`` and
``1 - p_k = (R + (1 - e_k)) / (1 + R)``, which is exact even where ``p_k`` rounds to 1. There, the
gradient ``p S - q h`` would be the difference of two large numbers. So it is computed as
``p (S - q h) - (1 - p) q h``, with ``S - q h`` as the sum over the other classes. The product of
all ``1 - p`` does not underflow: each has a floor, and only one ``p`` is above 1/2.

An infinite logit makes the row NaN, as in ``F.cross_entropy``. The module ``function`` chooses one
of the three, makes it an operation of PyTorch, and projects hidden states block by block.
"""
