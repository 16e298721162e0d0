"""The loop: batch -> sub-gradient -> exchange -> update, with events, evaluation and summary.

Quantise, exchange, owner and apply all happen inside ``OneBitSGD``; read ``optim/onebit_sgd.py``
next.
"""

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from thinwire.data import MinibatchSampler, shard
from thinwire.exchange import Wire
from thinwire.optim import OneBitSGD, StepReport, momentum_from_time_constant
from thinwire.report import EventLog
from thinwire.train.counts import VECTOR_STAGES, Counts
from thinwire.train.display import Display
from thinwire.train.evaluate import batch_totals, evaluate
from thinwire.train.prepare import Job
from thinwire.train.recipe import Recipe, to_jsonable, to_toml
from thinwire.train.replicas import compare_replicas
from thinwire.train.summary import Summary, summarise, versions, write_summary


def train(job: Job, display: Display) -> Summary:
    """Run a job on this worker until its last epoch and write the run folder.

    Args:
        job: what ``prepare`` made; every worker holds the same.
        display: where progress is shown.

    Returns:
        The summary, the same on every worker.

    Raises:
        FloatingPointError: training diverged.
        RuntimeError: replicas differ, or a worker was lost.
    """
    return _Run(job, display).train()


def build_optimizer(recipe: Recipe, model: torch.nn.Module) -> OneBitSGD:
    """The optimiser a recipe describes."""
    fields, exchange = recipe.optimizer, recipe.exchange
    return OneBitSGD(
        model.named_parameters(),
        fields.lr,
        momentum_from_time_constant(fields.momentum_time_constant, recipe.minibatch),
        weight_decay=fields.weight_decay,
        adagrad=fields.adagrad,
        batch_size=recipe.minibatch,
        code=exchange.code,
        bits=exchange.bits,
        error_feedback=exchange.error_feedback,
        axis=exchange.axis,
        cold_start=exchange.cold_start,
        cold_start_mode=exchange.cold_start_mode,
        bucket_mb=exchange.bucket_mb,
        max_skips=exchange.max_skips,
        timeout=timedelta(seconds=recipe.timeout),
    )


class _Run:
    """One worker's run: the job, what it has counted, and where it reports."""

    def __init__(self, job: Job, display: Display) -> None:
        self.job, self.recipe, self.model = job, job.recipe, job.model
        self.display = display
        self.optimizer = build_optimizer(job.recipe, job.model)
        self.wire = Wire(None, self.optimizer.ledger)
        self.sampler = MinibatchSampler(
            len(job.dataset.train), job.recipe.minibatch, job.recipe.seed
        )
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(
            self.optimizer, job.recipe.optimizer.lr_decay
        )
        params = sum(parameter.numel() for parameter in self.model.parameters())
        self.counts = Counts(params, self.wire.world)
        # Summed loss, errors and samples of this worker's minibatches.
        self.since_event = torch.zeros(3, dtype=torch.float64)
        self.since_epoch = torch.zeros(3, dtype=torch.float64)
        self.log: EventLog

    def train(self) -> Summary:
        """All epochs, then the final measurements."""
        with EventLog(self._start_folder()) as self.log, self.display:
            self._log_start()
            for epoch in range(self.recipe.epochs):
                self.counts.watch.start()
                while self.sampler.epoch == epoch:
                    self._step(self.sampler.next_minibatch())
                self.scheduler.step()
                self.counts.watch.stop()
                last = self._end_epoch()
            summary = self._summarise(last)
            self.log.write("end", **summary)
        if self.wire.rank == 0:
            write_summary(self.job.folder, summary, self.model)
        self.optimizer.close()
        return summary

    def _step(self, minibatch: Tensor) -> None:
        """One minibatch: this worker's share of it through model and exchange."""
        self.optimizer.zero_grad()
        self.optimizer.measure = (self.counts.steps + 1) % self.recipe.log_every == 0
        share = self._share(minibatch)
        self.optimizer.samples = len(share)
        if len(share):
            targets = self.job.dataset.train.targets[share]
            logits = self.model(self.job.dataset.train.inputs[share])
            F.cross_entropy(logits, targets).backward()  # hands over each bucket when complete
            self.since_event[:2] += batch_totals(logits, targets)
            self.since_event[2] += len(share)
        self.optimizer.step()
        assert self.optimizer.last_step is not None
        self._count(self.optimizer.last_step, len(minibatch))

    def _share(self, minibatch: Tensor) -> Tensor:
        if self.optimizer.phase == "serial":
            return minibatch if self.wire.rank == 0 else minibatch[:0]
        return shard(minibatch, self.wire.rank, self.wire.world)

    def _count(self, report: StepReport, samples: int) -> None:
        self.counts.add_step(samples, report.phase, self.optimizer.ledger)
        if report.nonfinite is not None:
            worker, parameter = report.nonfinite
            self.counts.skipped += 1
            self.log.write("skip", step=self.counts.steps, worker=worker, parameter=parameter)
            self.display.say(
                f"step {self.counts.steps} skipped by all: worker {worker} has a non-finite "
                f"gradient in {parameter}"
            )
        if self.counts.steps % self.recipe.log_every == 0:
            self._log_step(report)

    # --- reporting ------------------------------------------------------------------------------

    def _start_folder(self) -> Path:
        """Clear what an earlier run left under this worker's names; return the event file."""
        folder, rank = self.job.folder, self.wire.rank
        path = folder / ("events.jsonl" if rank == 0 else f"events-rank{rank}.jsonl")
        stale = [path]
        if rank == 0:
            stale += [folder / name for name in ("summary.json", "model.safetensors")]
            stale += [
                other
                for other in folder.glob("events-rank*.jsonl")
                if other.stem.removeprefix("events-rank").isdecimal()
                and int(other.stem.removeprefix("events-rank")) >= self.wire.world
            ]
        for file in stale:
            file.unlink(missing_ok=True)
        if rank == 0:
            (folder / "config.toml").write_text(to_toml(self.recipe), encoding="utf-8")
        return path

    def _log_start(self) -> None:
        self.log.write(
            "start",
            schema=1,
            rank=self.wire.rank,
            time=time.time(),
            name=self.job.name,
            method=self.recipe.method,
            workers=self.wire.world,
            params=self.counts.params,
            seed=self.recipe.seed,
            train_samples=self.sampler.size,
            versions=versions(),
            recipe=to_jsonable(self.recipe),
        )

    def _progress(self) -> dict[str, Any]:
        """The counts every event carries; bytes are this worker's."""
        ledger, counts = self.optimizer.ledger, self.counts
        return {
            "step": counts.steps,
            "samples": counts.samples,
            "communications": ledger.total(*VECTOR_STAGES).collectives,
            "bytes_sent": ledger.total().bytes,
            "seconds": counts.watch.seconds,
        }

    def _log_step(self, report: StepReport) -> None:
        loss, error = self._averages(self.since_event)
        self.since_epoch += self.since_event
        self.since_event.zero_()
        progress = self._progress()
        sent = progress["bytes_sent"]
        dense = self.counts.dense_bytes_per_step * self.counts.steps
        event = {
            **progress,
            "epoch": self.counts.samples / self.sampler.size,
            "compression": dense / sent if sent else None,
            "loss": loss,
            "error": error,
            "lr": float(self.optimizer.param_groups[0]["lr"]),
            "samples_per_second": self.counts.samples / progress["seconds"],
            "phase": report.phase,
            "residual_ratio": report.residual_ratio,
            "skipped": self.counts.skipped,
        }
        self.log.write("step", **event)
        self.display.step(event)

    def _end_epoch(self) -> dict[str, Any]:
        """Measure on the test set and make sure that replicas agree."""
        self.since_epoch += self.since_event
        self.since_event.zero_()
        train_loss, train_error = self._averages(self.since_epoch)
        self.since_epoch.zero_()
        test_loss, test_error = evaluate(self.model, self.job.dataset.test, self.wire)
        event = {
            **self._progress(),
            "epoch": self.sampler.epoch,
            "train_loss": train_loss,
            "train_error": train_error,
            "test_loss": test_loss,
            "test_error": test_error,
            "params_sha256": compare_replicas(self.model, self.wire),
            "replicas_identical": True,
        }
        self.log.write("epoch", **event)
        self.display.epoch(event)
        return event

    def _averages(self, totals: Tensor) -> tuple[float, float]:
        """Loss and error per sample over all workers."""
        loss, errors, samples = self.wire.sum(totals, "evaluation").tolist()
        return loss / max(samples, 1), errors / max(samples, 1)

    def _summarise(self, last_epoch: dict[str, Any]) -> Summary:
        train_loss, train_error = evaluate(self.model, self.job.dataset.train, self.wire)
        kept = ("test_loss", "test_error", "params_sha256", "replicas_identical")
        results = {
            "name": self.job.name,
            "method": self.recipe.method,
            "seed": self.recipe.seed,
            "train_loss": train_loss,
            "train_error": train_error,
            **{key: last_epoch[key] for key in kept},
        }
        return summarise(self.counts, self.wire, self.optimizer.ledger, results)
