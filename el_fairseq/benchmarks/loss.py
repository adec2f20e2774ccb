"""What the loss costs: time and peak memory of forward and backward, beside the alternatives.

``python -m el_fairseq.benchmarks.loss --help`` lists the options. Every figure is a ratio within
one run: the contenders take turns, so that whatever else the machine does hits all of them. On a
virtual machine run it twice: memory that it touches for the first time costs it much more.
"""

import argparse
import json
import math
import os
import platform
import re
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from ..common.cli import UserError, run
from ..common.files import writing
from ..loss import checked_spec, encouraging_loss, linear_encouraging_loss
from ..ops.autograd import loss_of_rows

SMOOTHING = 0.1
LITERAL = "EL, literal formula"
SHAPES = ["64x10", "256x1000", "1024x1000", "1500x4000", "3300x7800", "4096x10152", "4096x32000"]
PROJECTIONS = ["4096x512x32000", "1024x512x256000"]
DTYPES = {name: getattr(torch, name) for name in ("float32", "float64", "float16", "bfloat16")}


def literal_formula(logits, target, log_end=0.5):
    """The paper's formula as one would write it down, in eager PyTorch; summed."""
    log_probs = F.log_softmax(logits, dim=-1)
    probs = log_probs.exp()
    tangent = math.log(1 - log_end) - (probs - log_end) / (1 - log_end)
    bonus = torch.where(probs <= log_end, torch.log((1 - probs).clamp(min=1e-5)), tangent)
    terms = bonus - log_probs
    of_target = terms.gather(1, target.unsqueeze(1)).squeeze(1)
    return ((1 - SMOOTHING) * of_target + SMOOTHING * terms.mean(-1)).sum()


def fairseq_cross_entropy(logits, target):
    """What fairseq's label_smoothed_cross_entropy does with a model's logits."""
    from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss

    log_probs = F.log_softmax(logits, dim=-1)
    return label_smoothed_nll_loss(log_probs, target, SMOOTHING, ignore_index=1)[0]


def loss_contenders(literal=True):
    """Functions of (logits, target) by name; the first is what the others are compared with."""
    spec = checked_spec(label_smoothing=SMOOTHING)
    contenders = {
        "`F.cross_entropy`": lambda *x: F.cross_entropy(*x, label_smoothing=SMOOTHING),
        "fairseq's cross-entropy": fairseq_cross_entropy,
        "EL, `encouraging_loss`": lambda *x: encouraging_loss(*x, label_smoothing=SMOOTHING),
        # inplace_backward=True of the function, which asks for logits that are a result.
        "EL in place, as in training": lambda *x: loss_of_rows(*x, spec, "sum", in_place=True)[0],
    }
    try:
        import fairseq  # noqa: F401
    except Exception:  # no fairseq, or one that does not import on this Python
        del contenders["fairseq's cross-entropy"]
    if literal:
        contenders[LITERAL] = literal_formula
    return contenders


def projection_contenders(slow=True):
    """Functions of (hidden, weight, target) by name; the first is the baseline."""
    contenders = {
        "`F.linear` + `F.cross_entropy`": lambda hidden, weight, target: F.cross_entropy(
            F.linear(hidden, weight), target, label_smoothing=SMOOTHING
        ),
        "EL, `linear_encouraging_loss`": lambda hidden, weight, target: linear_encouraging_loss(
            hidden, weight, target, label_smoothing=SMOOTHING
        ),
    }
    if slow and hasattr(torch.nn, "LinearCrossEntropyOptions"):  # torch 2.13 and later
        options = torch.nn.LinearCrossEntropyOptions()
        # With label smoothing it would not work in chunks.
        contenders["`F.linear_cross_entropy`, chunked, not smoothed"] = lambda *x: (
            F.linear_cross_entropy(*x, options=options)
        )
    return contenders


def measure(contenders, make_inputs, differentiated, device, repeats, calls=1):
    """Seconds (a list) and peak bytes beyond the inputs of each contender, taking turns.

    A time is the mean of so many calls in a row.

    ``make_inputs()`` gives a contender's arguments, the first ``differentiated`` of which get
    gradients. They are made anew each time, because a contender may overwrite them.
    """
    seconds = {name: [] for name in contenders}
    peaks = {}
    inputs = make_inputs()
    fresh = [x.detach().clone() for x in inputs[:differentiated]]
    for repeat in range(repeats + 1):  # the first one warms up, and tells the memory
        for name, contender in contenders.items():
            with torch.no_grad():
                for tensor, values in zip(inputs, fresh):
                    tensor.copy_(values)
            peak = PeakMemory(device) if repeat == 0 else None
            _wait_for(device)
            start = time.perf_counter()
            for _ in range(calls):
                gradients = torch.autograd.grad(contender(*inputs), inputs[:differentiated])
            _wait_for(device)
            if peak is None:
                seconds[name].append((time.perf_counter() - start) / calls)
            else:
                peaks[name] = peak.bytes()
            del gradients
    return seconds, peaks


class PeakMemory:
    """The highest memory in use since this was made, beyond what was in use then.

    On CUDA what PyTorch has allocated; on Linux the process's resident memory; elsewhere unknown.
    """

    def __init__(self, device):
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)
        elif Path("/proc/self/clear_refs").exists():
            Path("/proc/self/clear_refs").write_text("5")
            self.before = self._resident("VmRSS")

    def bytes(self):
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) - self.before
        return self._resident("VmHWM") - self.before if hasattr(self, "before") else None

    @staticmethod
    def _resident(field):
        status = Path("/proc/self/status").read_text()
        return int(re.search(rf"{field}:\s+(\d+) kB", status).group(1)) << 10


def records(shape, seconds, peaks):
    """One record a contender: milliseconds (median, least, most), MiB, ratios to the first."""
    base = next(iter(seconds))
    rows = []
    for name, times in seconds.items():
        peak, base_peak = peaks[name], peaks[base]
        known = peak is not None and base_peak
        rows.append(
            {
                "shape": shape,
                "threads": torch.get_num_threads(),
                "what": name,
                "ms": 1000 * statistics.median(times),
                "ms_min": 1000 * min(times),
                "ms_max": 1000 * max(times),
                "time_ratio": statistics.median(times) / statistics.median(seconds[base]),
                "peak_mib": peak / 2**20 if known else None,
                "memory_ratio": peak / base_peak if known else None,
            }
        )
    return rows


def table_lines(records, with_header):
    """A line of a Markdown table from the contenders at one shape and number of threads."""
    cells = [records[0]["shape"], str(records[0]["threads"])]
    for record in records:
        first = record is records[0]
        cell = f"{record['ms']:.3g} ms" if first else f"{record['time_ratio']:.2f}"
        if record["peak_mib"] is not None:
            cell += f", {max(0, record['peak_mib']):.0f} MiB"
        cells.append(cell)
    header = ["shape", "threads", *(record["what"] for record in records)]
    table = [header, ["---"] * len(header), cells] if with_header else [cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in table)


def machine(device, dtype):
    """In words, what was measured on."""
    if device.type == "cuda":
        chip = torch.cuda.get_device_name(device)
    else:
        chip = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    return f"{chip}, torch {torch.__version__}, {dtype}"


def benchmark(shapes, projections, device, dtype, repeats, threads, literal):
    """Records of the contenders, one shape (N, V) or (N, D, V) and number of threads at a time."""
    generator = torch.Generator().manual_seed(1)

    def random(*size, scale=1.0):
        values = scale * torch.randn(*size, generator=generator)
        return values.to(device, dtype).requires_grad_()

    def classes(count, size):
        return torch.randint(2, size, (count,), generator=generator).to(device)

    few = random(2, 3)
    encouraging_loss(few, classes(2, 3)).backward()  # compiles the kernel
    for count, size in shapes:
        inputs = (random(count, size, scale=2.0), classes(count, size))
        calls = max(1, min(100, 2**20 // (count * size)))  # short ones by the dozen
        for number in threads:
            torch.set_num_threads(number)
            contenders = loss_contenders(literal)
            results = measure(contenders, lambda: inputs, 1, device, repeats, calls)  # noqa: B023
            yield records(f"{count} x {size}", *results)
    for count, width, size in projections:
        inputs = (random(count, width), random(size, width, scale=0.1), classes(count, size))
        for number in threads:
            torch.set_num_threads(number)
            contenders = projection_contenders(slow=literal)
            results = measure(contenders, lambda: inputs, 2, device, repeats)  # noqa: B023
            yield records(f"{count} x {width} x {size}", *results)


def _wait_for(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _device(name):
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # no such device, no such GPU
        reason = str(error).splitlines()[0]
        raise UserError(f"--device {name}: {reason}; cpu is always there") from None


def _sizes(text, count):
    sizes = text.lower().split("x")
    if len(sizes) != count or not all(size.isdigit() and int(size) > 2 for size in sizes):
        raise UserError(f"size '{text}', expected {count} whole numbers above 2, joined by x")
    return tuple(int(size) for size in sizes)


def main():
    parser = argparse.ArgumentParser(
        prog="python -m el_fairseq.benchmarks.loss", description=__doc__
    )
    parser.add_argument(
        "--shapes", nargs="*", default=SHAPES, metavar="NxV", help="logits (default: %(default)s)"
    )
    parser.add_argument(
        "--projections",
        nargs="*",
        default=PROJECTIONS,
        metavar="NxDxV",
        help="hidden states and vocabulary (default: %(default)s)",
    )
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="(%(default)s)"
    )
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[torch.get_num_threads()], metavar="N"
    )
    parser.add_argument(
        "--literal",
        action="store_true",
        help="the slow ones, too: the paper's formula in eager PyTorch, F.linear_cross_entropy",
    )
    parser.add_argument("--repeats", type=int, default=7, help="(default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, too")
    arguments = parser.parse_args()
    if arguments.repeats < 1 or min(arguments.threads) < 1:
        raise UserError("--repeats and --threads must be 1 or more")
    device = _device(arguments.device)
    groups = benchmark(
        [_sizes(shape, 2) for shape in arguments.shapes],
        [_sizes(shape, 3) for shape in arguments.projections],
        device,
        DTYPES[arguments.dtype],
        arguments.repeats,
        arguments.threads,
        arguments.literal,
    )
    where = machine(device, arguments.dtype)
    print(f"{where}; medians of {arguments.repeats} repetitions; memory beyond the inputs")
    measured, names = [], None
    for group in groups:
        before, names = names, [record["what"] for record in group]
        print("" if names == before else "\n", end="")
        print(table_lines(group, with_header=names != before), flush=True)
        measured += group
    if arguments.json:
        with writing(arguments.json) as file:
            json.dump({"machine": where, "records": measured}, file, indent=1)


if __name__ == "__main__":
    run(main)
