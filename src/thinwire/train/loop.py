"""The loop: steps of an algorithm, with events, evaluation, checkpoints and summary.

What a step is, ``minibatch`` and ``outer_iterations`` say; read one of them next.
"""

import signal
import time

from thinwire.exchange import Ledger, shared_wire
from thinwire.report import EventLog
from thinwire.train.agreement import PACE, SAVE, Agreement, signal_of, wish_to_stop
from thinwire.train.arithmetic import arithmetic
from thinwire.train.common_ground import check_common_ground
from thinwire.train.display import Display
from thinwire.train.folder import start_folder
from thinwire.train.minibatch import MinibatchTraining
from thinwire.train.outer_iterations import HessianFreeTraining
from thinwire.train.prepare import Job
from thinwire.train.reporter import Reporter
from thinwire.train.resume import Plan, identity, share_plan
from thinwire.train.save import Saver
from thinwire.train.stop import StopSignals
from thinwire.train.summary import Summary, versions, write_summary
from thinwire.train.training import Training


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
        DifferentWorkersError: workers were given different things, or do not share a disk.
        FloatingPointError: training diverged.
        RuntimeError: replicas differ, or a worker was lost.
    """
    check_common_ground(job, shared_wire(None, Ledger()))
    plan = share_plan(plan or Plan(anew=True), job, shared_wire(None, Ledger()))
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
        self.training = begin_training(job, shared_wire(None, Ledger()).world)
        self.state = self.training.state
        self.counts = self.state.counts
        self.wire = shared_wire(None, self.training.ledger)
        self.reporter = Reporter(job, self.training, self.wire, display)
        often = job.recipe.checkpoint_every < PACE
        self.agreement = Agreement(self.wire, every_step=often)
        self.saver = Saver(job.folder, self.wire, job.recipe.keep_checkpoints, plan.checkpoint)
        self.saved_at = time.monotonic()
        self.longest_step = 0.0

    def train(self) -> Summary | None:
        """All steps, then the final measurements."""
        for line in self.plan.remarks:
            self.display.say(line)
        if self.plan.checkpoint is not None:
            self.state.restore(self.plan.checkpoint, self.wire.rank, self.wire.world)
        path = start_folder(self.job, self.plan, self.wire.rank, self.wire.world)
        self.stop.step_seconds = self.training.expected_step_seconds()
        counting = self.training.grid.counting(self.wire.ledger)
        with EventLog(path) as log, self.display, counting:
            self.reporter.log = log
            self.reporter.start(self.plan)
            self.counts.watch.start()
            while not self.training.finished:
                if self._answer_wishes():
                    self.training.close()
                    return None
                self._step()
                if self.training.evaluation_due:
                    with self.stop.long_work():
                        self.reporter.evaluate()
            self.counts.watch.stop()
            self.agreement.receive()
            self.stop.answered()  # nearly done: finish rather than stop
            self._save()
            self.reporter.finish()
            whole = self.reporter.whole()
            summary = self.reporter.summary()
            log.write("end", **summary)
        if self.wire.rank == 0:
            write_summary(self.job.folder, summary, whole)
        self.training.close()
        return summary

    def _step(self) -> None:
        started = time.monotonic()
        for told in self.training.step():
            self.reporter.tell(told)
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
        made_with = {"versions": versions(), "arithmetic": arithmetic()}
        facts = {**identity(self.job), **made_with}
        with self.stop.long_work():
            failure = self.saver.save(self.state, self.reporter.whole(), facts)
        self.saved_at = time.monotonic()
        if failure:
            self.display.say(f"checkpoint of step {self.counts.steps} not written: {failure}")
        seconds = self.saved_at - started
        step = self.counts.steps
        self.reporter.log.write("checkpoint", step=step, took=seconds, failure=failure or None)
        self.counts.watch.start()
