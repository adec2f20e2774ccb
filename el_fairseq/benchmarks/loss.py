"""Cost of the loss and of alternatives: time and peak memory, of forward and backward by default.

``python -m el_fairseq.benchmarks.loss --help`` lists the options. Times are ratios within one run:
the contenders take turns, so that other load on the machine affects all of them. On a virtual
machine run it twice: there, the first access to memory is much slower.
"""

import contextlib
import ctypes
import functools
import math
import os
import platform
import re
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from ..common.cli import argument, command_line, run, whole_number
from ..common.tables import Table
from ..loss import checked_spec, encouraging_loss, linear_encouraging_loss
from ..ops import function
from ..ops.function import loss_of

SMOOTHING = 0.1
SMOOTHED = {"label_smoothing": SMOOTHING}
LIGER = "Liger's cross-entropy"
WIDTH = 512  # of the hidden states that --after-matmul projects to logits
SHAPES = [(64, 10), (256, 1000), (1500, 4000), (3300, 7800), (4096, 10152), (4096, 32000)]
PROJECTIONS = [(4096, 512, 32000), (1024, 512, 256000)]
DTYPES = {name: getattr(torch, name) for name in ("float32", "float64", "float16", "bfloat16")}


def literal_formula(logits, target, log_end=0.5):
    """The paper's formula, written literally in eager PyTorch; summed."""
    log_probs = F.log_softmax(logits, dim=-1)
    probs = log_probs.exp()
    tangent = math.log(1 - log_end) - (probs - log_end) / (1 - log_end)
    bonus = torch.where(probs <= log_end, torch.log((1 - probs).clamp(min=1e-5)), tangent)
    terms = bonus - log_probs
    of_target = terms.gather(1, target.unsqueeze(1)).squeeze(1)
    return ((1 - SMOOTHING) * of_target + SMOOTHING * terms.mean(-1)).sum()


class _Copy(torch.autograd.Function):
    """Reads the logits and writes as much to new memory, once: the bandwidth."""

    @staticmethod
    def forward(ctx, logits, target):
        ctx.gradient = logits.clone()
        return logits.new_zeros(())

    @staticmethod
    def backward(ctx, grad_loss):
        return ctx.gradient, None


def loss_contenders(slow=True, on_gpu=False):
    """Functions of (logits, target) by name; the first is the baseline."""
    spec = checked_spec(**SMOOTHED, reduction="sum", inplace_backward=True)
    contenders = {
        "`F.cross_entropy`": lambda *x: F.cross_entropy(*x, **SMOOTHED),
        "EL, `encouraging_loss`": lambda *x: encouraging_loss(*x, **SMOOTHED),
        # As inplace_backward=True of the function, which refuses these logits: they are a leaf.
        "EL in place, as in training": lambda logits, target: loss_of([logits], target, spec)[0],
    }
    with contextlib.suppress(Exception):  # no fairseq, or one that does not import on this Python
        from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss

        contenders["fairseq's cross-entropy"] = lambda logits, target: label_smoothed_nll_loss(
            F.log_softmax(logits, -1, dtype=torch.float32), target, SMOOTHING, ignore_index=1
        )[0]
    if slow:
        contenders["EL, literal formula"] = literal_formula
        contenders["a copy of the logits"] = _Copy.apply
    if slow and on_gpu:
        for name in ("`F.cross_entropy`", "EL, literal formula"):
            contenders[f"{name}, compiled"] = torch.compile(contenders[name], dynamic=False)
        with contextlib.suppress(ImportError):
            from liger_kernel.transformers.functional import liger_cross_entropy

            contenders[LIGER] = lambda *x: liger_cross_entropy(*x, **SMOOTHED)
    return contenders


def projection_contenders(slow=True, on_gpu=False):
    """Functions of (hidden, weight, target) by name; the first is the baseline."""
    contenders = {
        "`F.linear` + `F.cross_entropy`": lambda hidden, weight, target: F.cross_entropy(
            F.linear(hidden, weight), target, **SMOOTHED
        ),
        "EL, `linear_encouraging_loss`": lambda *x: linear_encouraging_loss(*x, **SMOOTHED),
    }
    if slow and hasattr(torch.nn, "LinearCrossEntropyOptions"):  # torch 2.13 and later
        options = torch.nn.LinearCrossEntropyOptions()
        # With label smoothing it does not work in chunks.
        contenders["`F.linear_cross_entropy`, chunked, not smoothed"] = lambda *x: (
            F.linear_cross_entropy(*x, options=options)
        )
    if slow and on_gpu:
        with contextlib.suppress(ImportError):
            from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

            contenders[LIGER] = lambda *x: liger_fused_linear_cross_entropy(*x, **SMOOTHED)
    return contenders


def training(contender, *inputs):
    """Forward and backward; no gradient is kept."""
    torch.autograd.grad(contender(*inputs), inputs[:-1])


def forward(contender, *inputs):
    contender(*(each.detach() for each in inputs))


@functools.lru_cache(maxsize=None)
def _graph(contender, *inputs):
    graph = torch.cuda.CUDAGraph()
    training(contender, *inputs)  # compiles the kernels
    with torch.cuda.graph(graph):
        training(contender, *inputs)
    return graph


STEPS = {"training": training, "forward": forward, "graph": lambda *of: _graph(*of).replay()}


def measure(contenders, inputs, repeats, calls=1, before=None, step=training):
    """Median seconds of a call, and peak bytes beyond the inputs, of each contender, in turns.

    Args:
        contenders: functions of the inputs, by name.
        inputs: tensors; all but the last get gradients. Contenders may overwrite them.
        repeats: turns of each contender, after one turn that warms up and measures the memory.
        calls: number of calls in each turn.
        before: a function to call right before each call; its time does not count.
        step: a value of ``STEPS``.
    """
    *differentiated, _ = inputs
    device, fresh = inputs[0].device, [x.detach().clone() for x in differentiated]

    def seconds(contender):
        with torch.no_grad():
            for tensor, values in zip(differentiated, fresh):
                tensor.copy_(values)
        in_a_row, total = calls if before is None else 1, 0.0
        for _ in range(calls // in_a_row):
            if before is not None:
                before()
            _wait_for(device)
            start = time.perf_counter()
            for _ in range(in_a_row):
                step(contender, *inputs)
            _wait_for(device)
            total += time.perf_counter() - start
        return total / calls

    # functools.partial, because a loop's variable would be the last contender.
    peaks = [peak_memory(functools.partial(seconds, each), device) for each in contenders.values()]
    turns = [[seconds(each) for each in contenders.values()] for _ in range(repeats)]
    return dict(zip(contenders, zip(map(statistics.median, zip(*turns)), peaks)))


def _wait_for(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(function, device):
    """The most bytes in use while a function runs, minus those in use before.

    On CUDA it is memory allocated by PyTorch, on Linux the resident memory of the process;
    elsewhere it is unknown, ``None``.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        return torch.cuda.max_memory_allocated(device) - before
    has_proc = Path("/proc/self/clear_refs").exists()
    if has_proc:
        ctypes.CDLL(None).malloc_trim(0)  # else memory that was freed, but kept, would not count
        Path("/proc/self/clear_refs").write_text("5")
        before = _resident("VmRSS")
    function()
    return _resident("VmHWM") - before if has_proc else None


def _resident(field):
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status).group(1)) << 10


def cells(results):
    """Time and peak memory of each contender; times after the first are ratios to the first."""
    base, _ = next(iter(results.values()))
    for name, (seconds, peak) in results.items():
        time = f"{seconds / base:.2f}" if name != next(iter(results)) else f"{1000 * base:.3g} ms"
        yield time if peak is None else f"{time}, {max(0, peak) / 2**20:.0f} MiB"


def benchmark(shapes, contenders, device, dtype, options):
    """A table of the contenders at each shape, (N, V) or (N, D, V), and number of threads."""
    generator = torch.Generator().manual_seed(1)

    def random(*size, scale):
        values = scale * torch.randn(*size, generator=generator)
        return values.to(device, dtype).requires_grad_()

    rows, step = [], STEPS[options.time]
    for count, *width, classes in shapes:
        if width:
            inputs = [random(count, *width, scale=1.0), random(classes, *width, scale=0.1)]
        else:
            inputs = [random(count, classes, scale=2.0)]
        inputs.append(torch.randint(2, classes, (count,), generator=generator).to(device))
        entries = 2**20 if device.type == "cpu" else 2**30  # of the calls in a turn
        calls = 1 if width else max(1, min(100, entries // (count * classes)))
        before = None
        if options.after_matmul:  # its threads then still wait for work
            hidden, weight = (random(n, WIDTH, scale=1.0).detach() for n in (count, classes))
            product = hidden.new_empty(count, classes)
            before = functools.partial(torch.mm, hidden, weight.t(), out=product)
            before()  # the product's memory is not that of the first contender
        for number in options.threads:
            torch.set_num_threads(number)
            results = measure(contenders, inputs, options.repeats, calls, before, step)
            shape = " x ".join(map(str, (count, *width, classes)))
            rows.append([shape, str(number), *cells(results)])
        _graph.cache_clear()
    return Table("", ["shape", "threads", *contenders], rows)


def _sizes(count):
    return argument(
        lambda text: tuple(map(int, text.lower().split("x"))),
        f"{count} whole numbers above 2, joined by x",
        lambda sizes: len(sizes) == count and min(sizes) > 2,
    )


def main():
    parser = command_line("python -m el_fairseq.benchmarks.loss", __doc__)
    add, number = parser.add_argument, whole_number(1)
    gpu = torch.cuda.is_available()
    add("--shapes", nargs="*", type=_sizes(2), default=SHAPES, metavar="NxV", help="logits")
    sizes = {"nargs": "*", "type": _sizes(3), "metavar": "NxDxV"}
    add("--projections", **sizes, default=PROJECTIONS, help="hidden states and vocabulary")
    add("--dtype", choices=DTYPES, default="float32")
    add("--device", choices=("cpu", "cuda"), default="cuda" if gpu else "cpu")
    add("--threads", type=number, nargs="+", default=[torch.get_num_threads()], metavar="N")
    more = "more contenders: the paper's formula in PyTorch, a copy of the logits, "
    more += "F.linear_cross_entropy; on a GPU compiled ones, and Liger's (pip install liger-kernel)"
    add("--literal", action="store_true", help=more)
    times = "of forward and backward (%(default)s), forward alone, a CUDA graph of both"
    add("--time", choices=STEPS, default="training", help=times)
    add("--block", type=number, default=function.BLOCK, help="entries of the projection's blocks")
    powers = [2**power for power in range(15)]
    add("--lanes", type=int, choices=powers[4:], help="entries that the GPU's kernel takes at once")
    add("--warps", type=int, choices=powers[:6], help="warps of the GPU's kernel")
    add("--after-matmul", action="store_true", help="call right after a projection to such logits")
    add("--repeats", type=number, default=7, help="(default: %(default)s)")
    options = parser.parse_args()
    device, dtype = torch.device(options.device), DTYPES[options.dtype]
    if device.type == "cpu" and (options.lanes or options.warps or options.time == "graph"):
        parser.error("--lanes, --warps and --time graph are for a GPU")
    function.BLOCK = options.block
    if options.lanes or options.warps:
        from ..ops import gpu

        gpu.lanes_of = lambda classes, own=gpu.lanes_of: options.lanes or own(classes)
        gpu.warps_of = lambda lanes, own=gpu.warps_of: options.warps or own(lanes)
    which = options.literal, device.type == "cuda"
    contenders = loss_contenders(*which), projection_contenders(*which)
    for each in contenders if options.time == "graph" else ():
        each.pop(LIGER, None)  # it waits for the GPU
    few = torch.zeros(2, 3, device=device, requires_grad=True)
    encouraging_loss(few, torch.zeros(2, device=device).long()).backward()  # compiles the kernel
    cpu = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    print(
        f"{cpu if device.type == 'cpu' else torch.cuda.get_device_name(device)}, "
        f"torch {torch.__version__}, {options.dtype}, {options.time}; medians of "
        f"{options.repeats} repetitions; memory beyond the inputs"
    )
    for shapes, some in zip((options.shapes, options.projections), contenders):
        if shapes:
            print(f"\n{benchmark(shapes, some, device, dtype, options).text('github')}")


if __name__ == "__main__":
    run(main)
