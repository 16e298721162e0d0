"""The figures a run ends with, the same on every worker."""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from thinwire import kernels
from thinwire.exchange import Wire
from thinwire.files import write_atomically
from thinwire.train.counts import communications
from thinwire.train.training import Training

SUMMARY = "summary.json"

Summary = dict[str, Any]


def versions() -> dict[str, str]:
    """What the run was made with."""
    return {
        "thinwire": version("thinwire"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "kernels": kernels.active(),
    }


def summarise(training: Training, wire: Wire, results: Mapping[str, Any]) -> Summary:
    """Combine the workers' counts.

    Args:
        training: this worker's.
        wire: the workers; a few small reductions.
        results: what else the summary holds (metrics, hash, names).

    Returns:
        ``results``, the counts and what the algorithm adds. "..._per_worker" are means over
        workers (worker 0's broadcasts count at worker 0).
    """
    counts, ledger = training.state.counts, wire.ledger
    names = sorted(ledger.stages)  # the same on every worker: all take part in every stage
    columns = ("collectives", "messages", "bytes")
    own = [[getattr(ledger.stages[name], column) for column in columns] for name in names]
    own.append([0, 0, ledger.total().bytes])
    so_far = communications(ledger)
    mean = (wire.sum(torch.tensor(own, dtype=torch.float64), "evaluation") / wire.world).tolist()
    sent = mean.pop()[-1]
    seconds = counts.watch.seconds
    return {
        **results,
        "workers": counts.workers,
        "params": counts.params,
        "steps": counts.steps,
        "skipped_steps": counts.skipped,
        "samples": counts.samples,
        "passes": training.epochs,
        **so_far,
        "bytes_sent_per_worker": round(sent),
        **training.compare(wire, sent),
        "seconds": seconds,
        "samples_per_second": counts.samples / seconds if seconds else None,
        "times": training.times(wire),
        "traffic": [
            {"stage": name, **{c: round(value) for c, value in zip(columns, row, strict=True)}}
            for name, row in zip(names, mean, strict=True)
        ],
        "versions": versions(),
    }


def write_summary(folder: Path, summary: Summary, whole: Mapping[str, Tensor]) -> None:
    """Write model.safetensors and then summary.json, which says that the run has finished."""
    # Copies: tensors that share memory cannot be written.
    tensors = {name: tensor.clone().contiguous() for name, tensor in whole.items()}
    write_atomically(folder / "model.safetensors", safetensors.torch.save(tensors))
    write_atomically(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
