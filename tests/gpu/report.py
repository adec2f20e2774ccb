"""Run what a GPU alone can run, and write down what came of it: ``bash scripts/test.sh --gpu``.

Status 2 where there is no GPU, 1 where a test or the benchmark failed.
"""

import argparse
import datetime
import importlib
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

import torch
from tabulate import tabulate

ROOT = Path(__file__).parents[2]


def machine(device):
    """Name and value of what the results depend on."""
    found = {"system": platform.platform(), "CPU threads": os.cpu_count()}
    if device == "cuda":
        for number in range(torch.cuda.device_count()):
            of_gpu = torch.cuda.get_device_properties(number)
            gib = of_gpu.total_memory / 2**30
            found[f"GPU {number}"] = (
                f"{of_gpu.name}, {gib:.0f} GiB, capability {of_gpu.major}.{of_gpu.minor}"
            )
        found["CUDA of torch"] = torch.version.cuda
    found["Python"] = platform.python_version()
    for name in ("torch", "triton", "numpy", "fairseq", "el_fairseq"):
        try:
            found[name] = importlib.import_module(name).__version__
        except ImportError:
            found[name] = "not installed"
    return found


def results(junit):
    """Name, outcome and seconds of each test in pytest's XML."""
    rows = []
    for case in ElementTree.parse(junit).iter("testcase"):
        outcome = "passed"
        for kind in ("failure", "error", "skipped"):
            found = case.find(kind)
            if found is not None:
                outcome = f"{kind}: {found.get('message', '').splitlines()[0][:120]}"
        rows.append([case.get("name"), outcome, f"{float(case.get('time')):.1f}"])
    return rows


def run(words, environment=None):
    """Run a module of Python's; returns status and what it said, which is shown as well."""
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(done.stdout, flush=True)
    return done.returncode, done.stdout


def main():
    parser = argparse.ArgumentParser(
        prog="bash scripts/test.sh --gpu",
        usage="%(prog)s [--out OUT] [tests or options of pytest]",
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "gpu-report.md")
    # The tests of this program run it on the CPU.
    parser.add_argument("--device", default="cuda", help=argparse.SUPPRESS)
    parser.add_argument("--benchmark", default="--repeats 5", help=argparse.SUPPRESS)
    args, others = parser.parse_known_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        print(
            f"error: torch {torch.__version__} finds no NVIDIA GPU here, and these tests are for "
            "one; run them on a machine that has one, and everywhere: bash scripts/test.sh",
            file=sys.stderr,
        )
        sys.exit(2)
    begin = time.monotonic()
    with TemporaryDirectory() as folder:
        junit = Path(folder) / "junit.xml"
        tests_failed, _ = run(
            [
                *("pytest", "-q", "--tb=short", "-o", "testpaths=tests/gpu"),
                f"--junitxml={junit}",
                *others,
            ],
            {"EL_TEST_DEVICE": args.device},
        )
        rows = results(junit) if junit.exists() else []
    benchmark = ["el_fairseq.benchmarks.loss", "--device", args.device, *args.benchmark.split()]
    benchmark_failed, said = run(benchmark)
    parts = [
        "# Tests on a GPU",
        f"{datetime.date.today()}, {time.monotonic() - begin:.0f} seconds in all.",
        tabulate(machine(args.device).items(), ["what", "which"], "github", disable_numparse=True),
        tabulate(rows, ["test", "outcome", "seconds"], "github", disable_numparse=True),
        f"`python -m {' '.join(benchmark)}`",
        said,
    ]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("\n\n".join(parts))
    print(f"The report is in {args.out}")
    sys.exit(1 if tests_failed or benchmark_failed else 0)


if __name__ == "__main__":
    main()
