"""The encouraging loss of rows of logits, three times: ``formula``, ``cpu`` and ``gpu``.

With ``p`` the softmax of a row of ``V`` logits, ``b`` the bonus, ``w`` its weight and ``q`` the
target distribution (``q_k = eps / V``, and ``1 - eps`` more for the target; with class weights each
times its class's), the loss is

    sum_k q_k (-log p_k + w b(p_k))

and its derivative with respect to logit ``j``, with ``dp_k/dz_j = p_k ([k = j] - p_j)``,

    p_j S - q_j h_j,    h_k = 1 - w p_k b'(p_k),    S = sum_k q_k h_k.

``-p b'(p)``, the *pull* of the bonus, is ``p / (1 - p)`` on the log curve and ``p / (1 - log_end)``
beyond: the gradient takes no logarithm. And the sum of the bonus over the classes takes one a row:
``sum_k log(1 - p_k)`` is the logarithm of the product, and beyond the log end the curve's last
value is a factor and the straight line a sum. So an entry costs one exponential.

The largest entry (the *top*) is handled apart, for accuracy. Its ``1 - p`` is the sum of the
other exponentials, exact where ``p`` rounds to 1; and no other ``p`` is above one half, so that
the product of all ``1 - p`` does not underflow. At the top the gradient ``p S - q h`` is the
difference of two numbers that are large where ``p`` is near 1. With ``T = q h`` of the top and
``R`` that of all others, ``S = R + T``, it is ``p (R + T) - T = p R - (1 - p) T``.

All three make four passes over a row: find the top; exponentials and their sum; product and sum
of the pulls, where labels are smoothed; the gradient. An infinite top makes the row NaN, as in
``F.cross_entropy``. ``rows`` chooses among the three, ``autograd`` makes them operations of
PyTorch, ``linear`` projects hidden states to logits block by block.
"""
