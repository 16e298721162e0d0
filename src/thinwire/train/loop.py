"""The loop: batch -> sub-gradient -> exchange -> update, with events, evaluation and summary.

Quantise, exchange, owner and apply all happen inside ``OneBitSGD``; read ``optim/exchanged.py``
next.
"""

import signal
import time
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from thinwire.data import shard
from thinwire.exchange import Ledger, Wire
from thinwire.optim import StepReport
from thinwire.report import EventLog
from thinwire.train.agreement import PACE, SAVE, Agreement, signal_of, wish_to_stop
from thinwire.train.counts import VECTOR_STAGES
from thinwire.train.display import Display
from thinwire.train.evaluate import batch_totals, evaluate
from thinwire.train.folder import start_folder
from thinwire.train.prepare import Job
from thinwire.train.recipe import to_jsonable
from thinwire.train.replicas import compare_replicas
from thinwire.train.resume import Plan, identity, share_plan
from thinwire.train.save import Saver
from thinwire.train.state import Training
from thinwire.train.stop import StopSignals
from thinwire.train.summary import Summary, summarise, versions, write_summary


def train(
    job: Job, display: Display, stop: StopSignals | None = None, plan: Plan | None = None
) -> Summary | None:
    """Run a job on this worker until its last epoch and write the run folder.

    Args:
        job: what ``prepare`` made; every worker holds the same.
        display: where progress is shown.
        stop: notices signals; without it they do what they always do.
        plan: how to begin; worker 0's counts. Without one the run begins anew.

    Returns:
        The summary, the same on every worker; None if all workers stopped for a signal, having
        written a checkpoint (``stop.agreed``), or if the run had finished before.

    Raises:
        FloatingPointError: training diverged.
        RuntimeError: replicas differ, or a worker was lost.
    """
    plan = share_plan(plan or Plan(anew=True), job, Wire(None, Ledger()))
    if plan.finished:
        display.say(
            f"{job.folder}: this run has finished; --resume never trains it anew, "
            "more --epochs go on with it"
        )
        return None
    return _Run(job, display, stop or StopSignals(), plan).train()


class _Run:
    """One worker's run: the job, its state, and where it reports."""

    def __init__(self, job: Job, display: Display, stop: StopSignals, plan: Plan) -> None:
        self.job, self.recipe, self.model = job, job.recipe, job.model
        self.display, self.stop, self.plan = display, stop, plan
        wire = Wire(None, Ledger())
        self.state = Training(job, wire.world)
        self.optimizer, self.sampler = self.state.optimizer, self.state.sampler
        self.counts = self.state.counts
        self.since_event, self.since_epoch = self.state.since_event, self.state.since_epoch
        self.wire = Wire(None, self.optimizer.ledger)
        often = job.recipe.checkpoint_every < PACE
        self.agreement = Agreement(self.wire, every_step=often)
        self.saver = Saver(job.folder, self.wire, job.recipe.keep_checkpoints, plan.checkpoint)
        self.saved_at = time.monotonic()
        self.log: EventLog

    def train(self) -> Summary | None:
        """All epochs, then the final measurements."""
        for line in self.plan.remarks:
            self.display.say(line)
        if self.plan.checkpoint is not None:
            self.state.restore(self.plan.checkpoint, self.wire.rank, self.wire.world)
        path = start_folder(self.job, self.plan, self.wire.rank, self.wire.world)
        with EventLog(path) as self.log, self.display:
            self._log_start()
            self.counts.watch.start()
            while self.sampler.epoch < self.recipe.epochs:
                if self._answer_wishes():
                    self.optimizer.close()
                    return None
                self._step(self.sampler.next_minibatch())
                if self.sampler.position == 0:
                    self._end_epoch()
            self.counts.watch.stop()
            self.agreement.receive()
            self.stop.answered()  # nearly done: finish rather than stop
            self._save()
            summary = self._summarise(self.state.last_epoch)
            self.log.write("end", **summary)
        if self.wire.rank == 0:
            write_summary(self.job.folder, summary, self.model)
        self.optimizer.close()
        return summary

    def _answer_wishes(self) -> bool:
        """Do what all agreed on after the last step; true if that is to stop."""
        agreed = self.agreement.receive()
        self.stop.agreed = signal_of(agreed)
        if self.stop.agreed:
            self.stop.answered()
        if agreed:
            self._save()
        if self.stop.agreed:
            self.display.say(
                f"stopped by {signal.Signals(self.stop.agreed).name} after step "
                f"{self.counts.steps}; the same command goes on from there"
            )
            return True
        due = time.monotonic() - self.saved_at >= self.recipe.checkpoint_every
        wish = SAVE if due and self.wire.rank == 0 else 0
        self.agreement.post(wish | wish_to_stop(self.stop.received))
        return False

    def _save(self) -> None:
        """Write a checkpoint; if that fails, say so and go on."""
        if self.saver.newest == self.counts.steps:
            return
        self.counts.watch.stop()
        started = time.monotonic()
        failure = self.saver.save(self.state, {**identity(self.job), "versions": versions()})
        self.saved_at = time.monotonic()
        if failure:
            self.display.say(f"checkpoint of step {self.counts.steps} not written: {failure}")
        seconds = self.saved_at - started
        self.log.write("checkpoint", step=self.counts.steps, took=seconds, failure=failure or None)
        self.counts.watch.start()

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

    def _log_start(self) -> None:
        self.log.write(
            "start",
            schema=1,
            rank=self.wire.rank,
            time=time.time(),
            resumed_step=self.plan.checkpoint.step if self.plan.checkpoint else None,
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
        dense = self.counts.dense_bytes_per_worker
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

    def _end_epoch(self) -> None:
        """Measure on the test set and make sure that replicas agree."""
        self.state.scheduler.step()
        self.counts.watch.stop()
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
        self.state.last_epoch = event
        self.counts.watch.start()

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
