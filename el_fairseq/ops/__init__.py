"""The encouraging loss of rows of logits, three times: ``reference``, ``cpu`` and ``gpu``.

With ``p`` the softmax of a row of ``V`` logits, ``b`` the bonus, ``w`` its weight and ``q`` the
target distribution (``q_k = eps / V``, and ``1 - eps`` more for the target; with class weights each
times its class's), the loss is

    sum_k q_k (-log p_k + w b(p_k))

and its derivative with respect to logit ``j``, with ``dp_k/dz_j = p_k ([k = j] - p_j)``,

    p_j S - q_j h_j,    h_k = 1 - w p_k b'(p_k),    S = sum_k q_k h_k.

``-p b'(p)``, the *slope* of the bonus, is ``p / (1 - p)`` on the log curve and
``p / (1 - log_end)`` beyond: the gradient takes no logarithm. And the sum of the bonus over the
classes takes one a row: ``sum_k log(1 - p_k)`` is the logarithm of the product, and beyond the log
end the curve's last value is a factor and the straight line a sum. So an entry costs one
exponential, ``e_k``, relative to the largest logit.

For accuracy, the sum of all ``e_k`` is kept without 1, as ``R``: the sum of those below 1, and how
many are 1, less 1. Then ``p_k = e_k / (1 + R)`` and ``1 - p_k = (R + (1 - e_k)) / (1 + R)``, exact
where ``p_k`` rounds to 1. There, too, the gradient ``p S - q h`` would be the difference of two
large numbers: it is ``p (S - q h) - (1 - p) q h``, with ``S - q h`` as the sum of the others.
The product of all ``1 - p``, none below its floor, does not underflow: only one ``p`` is above 1/2.

The steps over a row are: the largest logit; exponentials and their sum; product and sum of the
slopes, where labels are smoothed; the gradient. An infinite logit makes the row NaN, as in
``F.cross_entropy``. ``function`` chooses among the three, makes an operation of PyTorch of them,
and projects hidden states to logits block by block.
"""
