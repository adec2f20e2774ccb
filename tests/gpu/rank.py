"""One of two processes that train together: ``python rank.py DATA FOLDER RANK PORT DEVICE``."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from stack_losses import fairseq_losses

import el_fairseq.criterion  # noqa: F401  (registers it)


def main(data, folder, rank, port, device):
    words = [
        *("--distributed-world-size", "2", "--distributed-rank", rank, "--device-id", rank),
        *("--distributed-init-method", f"tcp://127.0.0.1:{port}", "--distributed-no-spawn"),
        *("--ddp-backend", "legacy_ddp"),
        *("--distributed-backend", "nccl" if device == "cuda" else "gloo"),
        *([] if device == "cuda" else ["--cpu"]),
    ]
    losses = fairseq_losses(data, folder, "encouraging_loss", *words, updates=5)
    (Path(folder) / f"rank{rank}.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    main(*sys.argv[1:])
