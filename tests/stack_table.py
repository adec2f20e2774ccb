"""The table of ``scripts/stacks.sh``, of what each stack left in a folder of its name.

``python tests/stack_table.py FOLDER NAME...`` reads, for each name, FOLDER/NAME/skipped (why the
whole stack was), tests.txt (pytest's output) and losses.json (what ``stack_losses.py`` printed).
Ends with status 1 where a test failed or losses differ.
"""

import json
import math
import re
import sys
from pathlib import Path

from tabulate import tabulate

TOLERANCE = 1e-4


def read_losses(folder):
    """The versions and losses of a stack; fairseq may have printed something before them."""
    return json.loads((folder / "losses.json").read_text().splitlines()[-1])


def difference(losses, others):
    """The largest difference at any update of any training that both stacks ran."""
    shared = [name for name in losses if name in others]
    if any(len(losses[name]) != len(others[name]) for name in shared):
        return math.inf
    gaps = [abs(a - b) for name in shared for a, b in zip(losses[name], others[name])]
    return max(gaps) if all(map(math.isfinite, gaps)) else math.inf


def outcome(folder):
    """Pytest's own count, such as "3 failed, 20 passed", and its lines about skipped tests."""
    lines = (folder / "tests.txt").read_text().splitlines()
    counts = re.sub(r" in [\d.:]+s.*", "", lines[-1].strip("= "))
    counts = re.sub(r", \d+ warnings?", "", counts)
    return counts, [line for line in lines if line.startswith("SKIPPED")]


def main(folder, *names):
    rows, notes, failed, reference = [], [], False, None
    for name in names:
        here = Path(folder) / name
        if (here / "skipped").exists():
            rows.append([name, "", "", "", "not run", ""])
            notes.append(f"{name}: not run: {(here / 'skipped').read_text().strip()}")
            continue
        counts, skipped = outcome(here)
        failed |= "failed" in counts or "error" in counts or "passed" not in counts
        notes += [f"{name}: {line}" for line in skipped]
        shown = "not run"
        versions = {}
        if (here / "losses.json").exists():
            found = read_losses(here)
            versions, losses = found["versions"], found["losses"]
            if reference is None:
                reference, shown = losses, "compared with"
            else:
                gap = difference(losses, reference)
                failed |= not gap <= TOLERANCE
                shown = f"{gap:.1e}" + (" (too much)" if not gap <= TOLERANCE else "")
        else:
            failed = True
        of = [versions.get(part) or "none" for part in ("python", "torch", "fairseq")]
        rows.append([name, *of, counts, shown])
    columns = ["stack", "Python", "torch", "fairseq", "tests", "losses differ by"]
    print(tabulate(rows, columns, "github", disable_numparse=True))
    print("".join(f"\n- {note}" for note in notes))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
