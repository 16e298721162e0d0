"""The loop: steps of an algorithm, with events, evaluation, checkpoints and summary.

What a step is, ``minibatch`` and ``outer_iterations`` say; read one of them next.
"""

import signal
import time
from typing import Any

from torch import Tensor

from thinwire.data import Split
from thinwire.exchange import Ledger, Wire
from thinwire.report import EventLog
from thinwire.train.agreement import PACE, SAVE, Agreement, signal_of, wish_to_stop
from thinwire.train.counts import communications
from thinwire.train.display import Display
from thinwire.train.evaluate import evaluate
from thinwire.train.folder import start_folder
from thinwire.train.minibatch import MinibatchTraining
from thinwire.train.outer_iterations import HessianFreeTraining
from thinwire.train.prepare import Job
from thinwire.train.recipe_files import to_jsonable
from thinwire.train.replicas import compare_replicas
from thinwire.train.resume import Plan, identity, share_plan
from thinwire.train.save import Saver
from thinwire.train.split import whole_state
from thinwire.train.stop import StopSignals
from thinwire.train.summary import Summary, summarise, versions, write_summary
from thinwire.train.training import Told, Training


def train(
    job: Job, display: Display, stop: StopSignals | None = None, plan: Plan | None = None
) -> Summary | None:
    """Run a job on this worker until its last step and write the run folder.

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
            f"more {job.recipe.length_flag} go on with it"
        )
        return None
    return _Run(job, display, stop or StopSignals(), plan).train()


def begin_training(job: Job, world: int) -> Training:
    """The algorithm the recipe names, before its first step."""
    if job.recipe.algorithm == "hessian-free":
        return HessianFreeTraining(job, world)
    return MinibatchTraining(job, world)


class _Run:
    """One worker's run: the job, the algorithm at work, and where it reports."""

    def __init__(self, job: Job, display: Display, stop: StopSignals, plan: Plan) -> None:
        self.job, self.recipe = job, job.recipe
        self.display, self.stop, self.plan = display, stop, plan
        self.training = begin_training(job, Wire(None, Ledger()).world)
        self.state = self.training.state
        self.counts = self.state.counts
        self.wire = Wire(None, self.training.ledger)
        often = job.recipe.checkpoint_every < PACE
        self.agreement = Agreement(self.wire, every_step=often)
        self.saver = Saver(job.folder, self.wire, job.recipe.keep_checkpoints, plan.checkpoint)
        self.saved_at = time.monotonic()
        self.longest_step = 0.0
        self.log: EventLog

    def train(self) -> Summary | None:
        """All steps, then the final measurements."""
        for line in self.plan.remarks:
            self.display.say(line)
        if self.plan.checkpoint is not None:
            self.state.restore(self.plan.checkpoint, self.wire.rank, self.wire.world)
        path = start_folder(self.job, self.plan, self.wire.rank, self.wire.world)
        self.stop.step_seconds = self.training.expected_step_seconds()
        counting = self.training.grid.counting(self.wire.ledger)
        with EventLog(path) as self.log, self.display, counting:
            self._log_start()
            self.counts.watch.start()
            while not self.training.finished:
                if self._answer_wishes():
                    self.training.close()
                    return None
                self._step()
                if self.training.evaluation_due:
                    self._evaluate()
            self.counts.watch.stop()
            self.agreement.receive()
            self.stop.answered()  # nearly done: finish rather than stop
            self._save()
            self._finish()
            whole = self._whole()
            summary = self._summarise(self.state.last_epoch)
            self.log.write("end", **summary)
        if self.wire.rank == 0:
            write_summary(self.job.folder, summary, whole)
        self.training.close()
        return summary

    def _step(self) -> None:
        started = time.monotonic()
        for told in self.training.step():
            self._tell(told)
        self.longest_step = max(self.longest_step, time.monotonic() - started)
        expected = self.training.expected_step_seconds()
        self.stop.step_seconds = max(self.longest_step, expected)

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
        if self.saver.newest == self.counts.progress:
            return
        self.counts.watch.stop()
        started = time.monotonic()
        facts = {**identity(self.job), "versions": versions()}
        failure = self.saver.save(self.state, self._whole(), facts)
        self.saved_at = time.monotonic()
        if failure:
            self.display.say(f"checkpoint of step {self.counts.steps} not written: {failure}")
        seconds = self.saved_at - started
        self.log.write("checkpoint", step=self.counts.steps, took=seconds, failure=failure or None)
        self.counts.watch.start()

    def _whole(self) -> dict[str, Tensor]:
        """The model's state, not split; all workers ask for it together."""
        return whole_state(self.state.model, self.training.grid.model(self.wire.ledger))

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
            train_samples=len(self.job.dataset.train),
            versions=versions(),
            recipe=to_jsonable(self.recipe),
        )

    def _progress(self) -> dict[str, Any]:
        """The counts every event carries; bytes are this worker's."""
        counts, seconds = self.counts, self.counts.watch.seconds
        return {
            "step": counts.steps,
            "epoch": self.training.epochs,
            "samples": counts.samples,
            **communications(self.wire.ledger),
            "bytes_sent": self.wire.ledger.total().bytes,
            "seconds": seconds,
            "samples_per_second": counts.samples / seconds,
        }

    def _tell(self, told: Told) -> None:
        event = {**self._progress(), **told.fields}
        self.log.write(told.event, **event)
        if told.line:
            self.display.say(told.line)
        else:
            self.display.step(event)

    def _evaluate(self) -> None:
        """Measure errors and make sure that replicas agree; neither is in the counted seconds."""
        self.counts.watch.stop()
        progress, averages = self._progress(), self.training.averages()
        train_loss, train_error = averages or self._measure(self.job.dataset.train)
        event = {
            **progress,
            "train_loss": train_loss,
            "train_error": train_error,
            "exact": averages is None,
            **self._test(),
        }
        self.log.write("epoch", **event)
        self.display.epoch(event)
        self.state.last_epoch = event
        self.counts.watch.start()

    def _test(self) -> dict[str, Any]:
        """The test set's figures of the model as it is, the same on all workers."""
        test_loss, test_error = self._measure(self.job.dataset.test)
        return {
            "test_loss": test_loss,
            "test_error": test_error,
            "params_sha256": compare_replicas(self._whole(), self.wire),
            "replicas_identical": True,
        }

    def _finish(self) -> None:
        """Complete what is in flight: after the checkpoint, from which more epochs may go on."""
        told = self.training.finish()
        if told is None:
            return
        for one in told:
            self._tell(one)
        self.state.last_epoch = {**self.state.last_epoch, **self._test()}

    def _measure(self, split: Split) -> tuple[float, float | None]:
        job, wire = self.job, self.training.grid.data(self.wire.ledger)
        return evaluate(self.state.model, split, wire, job.loss, job.dataset.classes)

    def _summarise(self, last_epoch: dict[str, Any]) -> Summary:
        train_loss, train_error = self._measure(self.job.dataset.train)
        kept = ("test_loss", "test_error", "params_sha256", "replicas_identical")
        results = {
            "name": self.job.name,
            "method": self.recipe.method,
            "seed": self.recipe.seed,
            "train_loss": train_loss,
            "train_error": train_error,
            **{key: last_epoch[key] for key in kept},
        }
        return summarise(self.training, self.wire, results)
