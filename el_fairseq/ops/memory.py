"""Memory for gradients, used again once nobody holds it."""

import torch

# Storages of matrices handed out: one, the last; more only for a moment, when threads meet.
_last = []
_holders = getattr(torch._C, "_storage_Use_Count", None)  # torch before 2.1 does not tell


def matrix_for_gradient(rows, classes, dtype, device):
    """Uninitialised (rows, classes), where possible in the memory of the last such matrix.

    On the CPU fresh memory comes from the system page by page, which costs half as much as the
    whole loss. So the last matrix's memory is kept, and used again when no tensor is left in it
    and it is not over twice too large. Allocators of GPUs do so by themselves.
    """
    if device.type != "cpu" or _holders is None:
        return torch.empty(rows, classes, dtype=dtype, device=device)
    size = rows * classes * torch.empty(0, dtype=dtype).element_size()
    storage = _last.pop() if _last else None
    if storage is None or not size <= storage.nbytes() <= 2 * size or _holders(storage._cdata) > 1:
        storage = torch.UntypedStorage(size)
    _last[:] = [storage]
    return torch.empty(0, dtype=dtype).set_(storage, 0, (rows, classes), (classes, 1))
