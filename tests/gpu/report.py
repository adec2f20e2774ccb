"""Run on a GPU what tests and benchmarks can run there, and report: ``bash scripts/test.sh --gpu``.

Status 2 where there is no GPU, 1 where a test or a benchmark failed.
"""

import argparse
import datetime
import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
# In these, what can run on either device takes it from EL_TEST_DEVICE.
TESTS = [
    *("ops/test_kernels.py", "ops/test_ops.py", "gpu/test_cuda.py"),
    *("criterion/test_precision.py", "criterion/test_two_processes.py"),
    *("experiments/test_worker.py", "integrations/test_transformers.py"),
]
SMALL, LARGE = "64x10 256x1000 1024x1000 4096x10152", "16384x1000 8192x8192 8192x50257 1024x256000"
WIDTHS = ("1024 --warps 4", "2048 --warps 8", "4096 --warps 16", "8192 --warps 32")
BENCHMARKS = [
    *(f"--dtype {dtype} --literal --repeats 5" for dtype in ("float32", "float16", "bfloat16")),
    *(f"--dtype {dtype} --shapes {LARGE} --projections" for dtype in ("float32", "float16")),
    *(f"--dtype {dtype} --time forward --projections" for dtype in ("float32", "float16")),
    f"--dtype float16 --time graph --shapes {SMALL} --projections",
    *(f"--dtype float16 --shapes 8192x32000 --projections --lanes {width}" for width in WIDTHS),
    *(f"--dtype float16 --shapes --block {2**power}" for power in (23, 25, 27, 28)),
]


def run(words, device):
    """Run a module of Python's; returns whether it failed, and a part of the report."""
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env={**os.environ, "EL_TEST_DEVICE": device},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(done.stdout, flush=True)
    return done.returncode != 0, f"`python -m {' '.join(words)}`\n\n```\n{done.stdout}```\n"


def main():
    parser = argparse.ArgumentParser(
        prog="bash scripts/test.sh --gpu",
        usage="%(prog)s [--out OUT] [tests or options of pytest]",
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "gpu-report.md")
    # The tests of this program run it on the CPU.
    parser.add_argument("--device", default="cuda", help=argparse.SUPPRESS)
    parser.add_argument("--benchmark", action="append", help=argparse.SUPPRESS)
    args, others = parser.parse_known_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        print(
            f"error: torch {torch.__version__} finds no NVIDIA GPU here, and these tests are for "
            "one; run them on a machine that has one, and everywhere: bash scripts/test.sh",
            file=sys.stderr,
        )
        sys.exit(2)
    tests = [f"tests/{path}" for path in TESTS]
    words = ["pytest", "-q", "-rA", "--tb=short", "--show-capture=no", "--durations=0"]
    tests_failed, tested = run([*words, "-o", f"testpaths={' '.join(tests)}", *others], args.device)
    words = ["el_fairseq.benchmarks.loss", "--device", args.device]
    timed = [run([*words, *each.split()], args.device) for each in args.benchmark or BENCHMARKS]
    _, machine = run(["torch.utils.collect_env"], args.device)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    head = f"# Tests on a GPU, {datetime.date.today()}"
    args.out.write_text("\n\n".join([head, machine, tested, *(said for _, said in timed)]))
    print(f"The report is in {args.out}")
    sys.exit(tests_failed or any(failed for failed, _ in timed))


if __name__ == "__main__":
    main()
