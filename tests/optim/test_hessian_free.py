"""HessianFree: the same whatever the number of workers, downhill always, resumable, never stuck."""

import functools
import itertools
import math
import statistics

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import thinwire
from tests.rounding import apart, nudge
from thinwire import HessianFree, Objective
from thinwire.curvature import Samples
from thinwire.optim import evaluator, hessian_free, newton
from thinwire.search import sufficient
from thinwire.train.counts import communications

METHODS = ("gauss-newton", "bicgstab", "hybrid", "cg")


def problem(dtype=torch.float64, samples=301, seed=0):
    """A classification task and a small sigmoid network."""
    torch.manual_seed(seed)
    inputs = torch.randn(samples, 6, dtype=dtype)
    targets = (inputs[:, :3] @ torch.randn(3, 4, dtype=dtype)).argmax(1)
    model = nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 4)).to(dtype)
    return model, inputs, targets


def options(**changed):
    return {"curvature_batch": 128, "solver_iterations": 8, **changed}


def flat(model):
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def train(
    steps,
    *,
    dtype=torch.float64,
    everywhere=True,
    rank=0,
    world=1,
    seed=0,
    nudged=0,
    chunk=50,
    **changed,
):
    """(losses, parameters, the optimiser) after some steps; ``nudged``: by rounding, see there."""
    model, inputs, targets = problem(dtype, seed=seed)
    if nudged:
        nudge(model.parameters(), nudged)
    optimizer = HessianFree(model.parameters(), **options(**changed))
    if not everywhere:  # uneven shards of one's own, in the global order
        bounds = [0, *(len(inputs) * (k + 1) ** 2 // world**2 for k in range(world))]
        mine = slice(bounds[rank], bounds[rank + 1])
        inputs, targets = inputs[mine], targets[mine]
    objective = Objective(
        model, F.cross_entropy, (inputs, targets), everywhere=everywhere, chunk=chunk
    )
    losses = [optimizer.step(objective) for _ in range(steps)]
    return losses, flat(model), optimizer


@functools.cache
def condition(damping):
    """(largest + damping) / damping of the Hessian's absolute eigenvalues where training begins."""
    model, inputs, targets = problem()
    names, shapes = zip(*((n, p.shape) for n, p in model.named_parameters()), strict=True)

    def loss(theta):
        pieces = theta.split([shape.numel() for shape in shapes])
        parameters = {n: x.view(s) for n, x, s in zip(names, pieces, shapes, strict=True)}
        return F.cross_entropy(torch.func.functional_call(model, parameters, inputs), targets)

    H = torch.autograd.functional.hessian(loss, flat(model))
    return 1 + float(torch.linalg.eigvalsh(H).abs().max()) / damping


def rounding_bound(steps, run, *, dtype=torch.float64, solver_iterations=8, damping=0.03):
    """How far workers' results may be apart, relative to their size, if all is right but rounding.

    Another number of workers rounds each of the run's sums otherwise: of two products an iteration
    at most, and of the gradient, losses and inner products around each solve. Each sum moves what
    follows no further than the start's last bit does, which has the longest way to grow. So the
    bound is the number of sums times what one unit in the last place of the start does to the
    run of one worker: the most that was seen of several such nudges and other chunks of samples,
    and never less than one unit times the condition of the first system that is solved.

    Args:
        steps: of the run.
        run: (losses, parameters, ...) for ``nudged`` and ``chunk`` as keywords.
        dtype: of the parameters.
        solver_iterations: of each solve.
        damping: of the first system, or less.
    """
    losses, theta, *_ = run()
    others = [{"nudged": 1}, {"nudged": 2}, {"chunk": 37}]
    moved = [run(**other) for other in others]
    seen = max(max(apart(losses, m[0]), apart(theta, m[1])) for m in moved)
    sums = steps * (2 * solver_iterations + 4)
    return sums * max(seen, torch.finfo(dtype).eps * condition(damping))


def on_rank(rank, world, steps, changed):
    losses, theta, optimizer = train(steps, rank=rank, world=world, **changed)
    return losses, theta, optimizer.ledger.state_dict(), optimizer.last_step


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("preconditioner", ["kronecker", "diagonal", "none"])
def test_never_goes_uphill_and_learns(method, preconditioner):
    losses, _, optimizer = train(8, method=method, preconditioner=preconditioner)
    assert all(after <= before for before, after in itertools.pairwise(losses))
    assert losses[-1] < 0.5 * math.log(4)
    assert optimizer.last_step.loss == losses[-1]


@pytest.mark.parametrize(
    ("method", "curvature", "everywhere", "least_cosine"),
    [
        ("gauss-newton", "sharded", True, 0.0),
        ("gauss-newton", "replicated", True, 0.0),
        ("gauss-newton", "replicated", False, 0.0),
        ("bicgstab", "sharded", True, 0.0),
        ("bicgstab", "sharded", True, 0.7),
        ("hybrid", "replicated", True, 0.0),
        ("cg", "sharded", True, 0.0),
    ],
)
def test_number_of_workers_changes_nothing_but_rounding(
    run_ranks, method, curvature, everywhere, least_cosine
):
    changed = {"method": method, "curvature": curvature, "least_cosine": least_cosine}
    alone, theta, _ = train(5, **changed)
    bound = rounding_bound(5, functools.partial(train, 5, **changed))
    for world in (2, 4) if everywhere and method == "gauss-newton" else (2 + (not everywhere),):
        results = run_ranks(world, on_rank, 5, {**changed, "everywhere": everywhere})
        for losses, parameters, _, _ in results:
            assert apart(alone, losses) <= bound
            assert apart(theta, parameters) <= bound
            assert torch.equal(parameters, results[0][1])


def test_float32_agrees_to_rounding(run_ranks):
    alone, theta, _ = train(4, dtype=torch.float32)
    run = functools.partial(train, 4, dtype=torch.float32)
    bound = rounding_bound(4, run, dtype=torch.float32)
    for losses, parameters, _, _ in run_ranks(2, on_rank, 4, {"dtype": torch.float32}):
        assert apart(alone, losses) <= bound
        assert apart(theta, parameters) <= bound


def test_a_least_cosine_keeps_bicgstab_from_amplifying_rounding():
    """One unit in the last place of the start: the geometric mean of eight problems."""

    def moved(seed, least_cosine):
        changed = {"method": "bicgstab", "seed": seed, "least_cosine": least_cosine}
        return apart(train(3, **changed)[1], train(3, nudged=1, **changed)[1])

    as_in_H, kept = (statistics.geometric_mean(moved(s, c) for s in range(8)) for c in (0.0, 0.7))
    assert kept < as_in_H / 4


def test_replicated_solves_send_one_vector_for_each_iteration(run_ranks):
    for _, _, ledger, _ in run_ranks(2, on_rank, 5, {"curvature": "replicated"}):
        assert ledger["gradient"]["collectives"] == 6  # all trials accepted: one more than steps
        assert set(ledger) == {"agreement", "initial parameters", "sample counts", "gradient"}
        values = (6 * 8 + 8 + 8 * 4 + 4) + 1 + 16  # gradient, loss, fingerprint
        assert ledger["gradient"]["bytes"] == 6 * 2 * (values * 8) // 2


def test_sharded_solves_send_one_vector_for_each_product(run_ranks):
    changed = {"curvature": "sharded", "warm_start": 0.0}
    for _, _, ledger, last in run_ranks(2, on_rank, 1, changed):
        assert ledger["curvature products"]["collectives"] == last.products
        assert ledger["gradient"]["collectives"] == 2
        assert ledger["inner products"]["collectives"] == 1
        assert ledger["candidate losses"]["collectives"] == 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("curvature", ["replicated", "sharded"])
def test_resumes_to_the_bit(method, curvature):
    changed = {"method": method, "curvature": curvature}
    _, undisturbed, _ = train(6, **changed)
    model, inputs, targets = problem()
    objective = Objective(model, F.cross_entropy, (inputs, targets), chunk=50)
    optimizer = HessianFree(model.parameters(), **options(**changed))
    for _ in range(3):
        optimizer.step(objective)
    saved, parameters = optimizer.state_dict(), model.state_dict()
    model, _, _ = problem(seed=1)
    optimizer = HessianFree(model.parameters(), **options(**changed))
    model.load_state_dict(parameters)
    optimizer.load_state_dict(saved)
    passes = optimizer.passes
    objective = Objective(model, F.cross_entropy, (inputs, targets), chunk=50)
    for _ in range(3):
        optimizer.step(objective)
    theta = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    assert torch.equal(theta, undisturbed)
    assert optimizer.passes > passes


def coded_on_rank(rank, world):
    """A run over 8-bit gradients, stopped and resumed; conservation of every reduction."""
    undisturbed = train(6, dtype=torch.float32, gradient_code="8-bit")[1]
    model, inputs, targets = problem(torch.float32)
    objective = Objective(model, F.cross_entropy, (inputs, targets), chunk=50)
    first = HessianFree(model.parameters(), **options(gradient_code="8-bit"))
    for _ in range(3):
        first.step(objective)
    second = HessianFree(model.parameters(), **options(gradient_code="8-bit"))
    second.load_state_dict(first.state_dict())
    for _ in range(3):
        second.step(objective)
    theta = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    return undisturbed, theta, first.state_dict()


def test_coded_gradients_resume_to_the_bit_and_reshard(run_ranks):
    results = run_ranks(2, coded_on_rank)
    for undisturbed, theta, _ in results:
        assert torch.equal(undisturbed, theta)
        assert torch.equal(theta, results[0][1])
    states = [state for _, _, state in results]
    alone = thinwire.reshard(states, 0, 1)
    for i, entry in alone["state"].items():
        rows = [state["state"][i]["residual"] for state in states]
        torch.testing.assert_close(entry["residual"], sum(rows))
        assert torch.equal(entry["gradient"], states[0]["state"][i]["gradient"])
    model, inputs, targets = problem(torch.float32)
    optimizer = HessianFree(model.parameters(), **options(gradient_code="8-bit"))
    with pytest.raises(ValueError, match=r"for world 2, this is 1; thinwire\.reshard"):
        optimizer.load_state_dict(states[0])
    optimizer.load_state_dict(alone)
    optimizer.step(Objective(model, F.cross_entropy, (inputs, targets)))


def disagreeing(rank, world, how):
    """Worker 1 computes another direction, as a processor that rounds differently would."""
    original = newton.solve

    def solve(*args):
        solution = original(*args)
        for iterate in solution.iterates if rank == 1 else ():
            iterate.x.mul_(1 + 1e-12)
        if rank == 1 and how == "nothing found":
            solution.iterates.clear()
        return solution

    hessian_free.solve = solve
    try:
        losses, theta, optimizer = train(3)
    finally:
        hessian_free.solve = original
    return losses, theta, optimizer.last_step, optimizer.ledger.total("direction").collectives


@pytest.mark.parametrize("how", ["rounding", "nothing found"])
def test_workers_that_round_differently_take_worker_0s_step(run_ranks, how):
    alone, theta, _ = train(3)
    bound = rounding_bound(3, functools.partial(train, 3))
    results = run_ranks(2, disagreeing, how)
    for losses, parameters, last, broadcasts in results:
        assert apart(alone, losses) <= bound
        assert apart(theta, parameters) <= bound
        assert torch.equal(parameters, results[0][1])
        assert "worker 0's was taken" in last.note
        assert (last.kind, last.damping, last.ratio) == (
            results[0][2].kind,
            results[0][2].damping,
            results[0][2].ratio,
        )
        assert broadcasts == 6  # a vector and its numbers in each step


def test_automatic_choice_explains_itself(run_ranks):
    for losses, _, _, last in run_ranks(2, on_rank, 1, {"curvature": "auto"}):
        assert len(losses) == 1
        assert "curvature batch" in last.note
        assert "ms sharded" in last.note


class Function(nn.Module):
    """f(x, y) as a model of two parameters whose one output is the loss."""

    def __init__(self, f, start):
        super().__init__()
        self.f = f
        self.xy = nn.Parameter(torch.tensor(start, dtype=torch.float64))

    def forward(self, inputs):
        return self.f(*self.xy).expand(len(inputs), 1)


def minimise(f, start, **changed):
    model = Function(f, start)
    data = (torch.zeros(2, 1, dtype=torch.float64), torch.zeros(2, 1, dtype=torch.float64))
    objective = Objective(model, lambda outputs, targets: outputs.mean(), data)
    optimizer = HessianFree(model.parameters(), preconditioner="none", **changed)
    losses = [optimizer.step(objective) for _ in range(60)]
    return losses, model.xy.detach(), optimizer


def double_well(x, y):
    """Minima -1/4 at (0, +-1), a saddle at the origin; y = 0 leads into it."""
    return x**2 + y**4 / 4 - y**2 / 2


def monkey(x, y):
    """A monkey saddle at the origin, where the Hessian vanishes too; bounded by (x^2 + y^2)^2."""
    return x**3 - 3 * x * y**2 + (x**2 + y**2) ** 2


@pytest.mark.parametrize("method", ["bicgstab", "cg", "hybrid"])
@pytest.mark.parametrize("start", [(0.0, 0.0), (1.0, 0.0), (1.0, 1e-9), (0.3, -2.0)])
def test_leaves_a_saddle_and_reaches_a_minimum(method, start):
    losses, found, optimizer = minimise(double_well, start, method=method)
    assert all(after <= before for before, after in itertools.pairwise(losses))
    assert losses[-1] == pytest.approx(-0.25, abs=1e-12)
    assert found.abs().tolist() == pytest.approx([0, 1], abs=1e-5)
    assert optimizer.last_step.kind == "none"


@pytest.mark.parametrize("method", METHODS)
def test_reaches_the_monkey_saddles_minima(method):
    losses, found, _ = minimise(monkey, (0.1, 0.3), method=method)
    assert losses[-1] == pytest.approx(-27 / 256, abs=1e-8)
    assert float(found.norm()) == pytest.approx(0.75, abs=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_solves_a_quadratic_and_then_stands_still(method):
    def quadratic(x, y):
        return 3 * (x - 1) ** 2 + (x + y) ** 2 + 5

    losses, found, optimizer = minimise(quadratic, (8.0, -3.0), method=method, damping=1e-6)
    assert losses[-1] == pytest.approx(5, abs=1e-12)
    assert found.tolist() == pytest.approx([1, -1], abs=1e-5)
    assert optimizer.last_step.alpha == 0
    assert optimizer.last_step.kind == "none"


def test_every_accepted_step_keeps_armijos_promise(monkeypatch):
    original, kept = evaluator.search, []

    def search(start, *rest):
        trial = original(start, *rest)
        if trial.alpha:
            kept.append(sufficient(start.loss, trial.loss, trial.alpha, trial.direction))
        return trial

    monkeypatch.setattr(evaluator, "search", search)
    for method in METHODS:
        train(5, method=method)
    assert len(kept) >= 16
    assert all(kept)


def test_a_loss_that_is_not_finite_shortens_the_step():
    """log leaves its domain where the full step goes."""

    def barrier(x, y):
        return x + y**2 - torch.log(x) * 1e-3

    losses, found, _ = minimise(barrier, (1.0, 1.0), damping=1e-6, method="bicgstab")
    assert all(math.isfinite(loss) for loss in losses)
    assert found.isfinite().all()
    assert losses[-1] < 0.02


def test_products_that_are_not_finite_do_not_poison_parameters():
    model, inputs, targets = problem()
    objective = Objective(model, F.cross_entropy, (inputs, targets))
    optimizer = HessianFree(model.parameters(), **options())
    optimizer.step(objective)
    before = optimizer.last_step.loss

    def broken(self, theta):
        return lambda v: torch.full_like(v, torch.nan)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Samples, "gauss_newton", broken)
        after = optimizer.step(objective)
    assert after < before  # along the gradient
    assert optimizer.last_step.kind == "gradient"
    assert "non-finite" in optimizer.last_step.outcome
    assert all(p.isfinite().all() for p in model.parameters())


def test_a_start_that_is_not_finite_is_an_error():
    model, inputs, targets = problem()
    with torch.no_grad():
        model[0].weight[0, 0] = torch.nan
    optimizer = HessianFree(model.parameters())
    with pytest.raises(FloatingPointError, match="iteration 1: where it begins, the loss is nan"):
        optimizer.step(Objective(model, F.cross_entropy, (inputs, targets), chunk=64))


def closure_on_rank(rank, world, method):
    model, inputs, targets = problem()
    optimizer = HessianFree(
        model.parameters(), method=method, preconditioner="none", damping=0.1, solver_iterations=8
    )
    bounds = {1: [0, 301], 2: [0, 100, 301], 3: [0, 100, 100, 301]}[world]  # one of 3 has none
    mine = slice(bounds[rank], bounds[rank + 1])

    def closure():
        outputs = model(inputs[mine])
        return F.cross_entropy(outputs, targets[mine]), outputs

    losses = [optimizer.step(closure) for _ in range(5)]
    return losses, flat(model)


@pytest.mark.parametrize("method", METHODS)
def test_closures_are_the_same_as_an_objective_of_their_samples(run_ranks, method):
    losses, theta = closure_on_rank(0, 1, method)
    changed = {"method": method, "preconditioner": "none", "damping": 0.1, "curvature_batch": 301}
    run = functools.partial(train, 5, **changed)
    bound = rounding_bound(5, run, damping=0.1)
    assert apart(losses, run()[0]) <= bound
    if method == "gauss-newton":
        for found, parameters in run_ranks(2, closure_on_rank, method) + run_ranks(
            3, closure_on_rank, method
        ):
            assert apart(losses, found) <= bound
            assert apart(theta, parameters) <= bound


def test_closures_must_return_loss_and_outputs():
    model, inputs, targets = problem()
    optimizer = HessianFree(model.parameters())
    with pytest.raises(TypeError, match=r"return \(loss, outputs\), got Tensor"):
        optimizer.step(lambda: F.cross_entropy(model(inputs), targets))
    optimizer = HessianFree(model.parameters(), preconditioner="diagonal")
    with pytest.raises(ValueError, match="which a closure does not give"):
        optimizer.step(lambda: (F.cross_entropy(model(inputs), targets), inputs))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"method": "newton"}, "method: expected one of gauss-newton"),
        ({"curvature": "split"}, "curvature: expected one of"),
        ({"preconditioner": "jacobi"}, "preconditioner: expected one of"),
        ({"damping": 0.0}, "damping: expected > 0"),
        ({"solver_iterations": 0}, "solver_iterations"),
        ({"warm_start": 2.0}, "warm_start: expected 0 to 1"),
        ({"least_cosine": 1.0, "method": "bicgstab"}, "least_cosine: expected 0 to below 1"),
        ({"least_cosine": 0.7}, 'least_cosine: expected 0 unless method="bicgstab"'),
        ({"gradient_code": "3-bit"}, "code: expected one of"),
    ],
)
def test_bad_options_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        HessianFree(nn.Linear(2, 1).parameters(), **changed)


def test_one_group_only():
    groups = [{"params": nn.Linear(2, 1).parameters()}, {"params": nn.Linear(2, 1).parameters()}]
    with pytest.raises(ValueError, match="one group, got 2"):
        HessianFree(groups)


def test_data_must_fit_together():
    model, inputs, targets = problem()
    with pytest.raises(ValueError, match="301 inputs but 300 targets"):
        Objective(model, F.cross_entropy, (inputs, targets[:300]))


def test_a_map_style_data_set_is_the_same_as_its_tensors():
    model, inputs, targets = problem()
    data = list(zip(inputs, targets, strict=True))
    optimizer = HessianFree(model.parameters(), **options())
    objective = Objective(model, F.cross_entropy, data, chunk=50)
    assert [optimizer.step(objective) for _ in range(3)] == train(3)[0]


@pytest.mark.parametrize("method", METHODS)
def test_solver_vectors_may_be_spread_over_workers(run_ranks, method):
    changed = {"method": method, "curvature": "sharded", "preconditioner": "diagonal"}
    alone, theta, _ = train(4, **changed)
    bound = rounding_bound(4, functools.partial(train, 4, **changed))
    results = run_ranks(3, on_rank, 4, {**changed, "solver_vectors": "sharded"})
    for losses, parameters, ledger, _ in results:
        assert apart(alone, losses) <= bound
        assert apart(theta, parameters) <= bound
        assert ledger["curvature products"]["collectives"] > 0


def test_coarse_products_still_train(run_ranks):
    changed = {"curvature": "sharded", "product_code": "bfloat16", "dtype": torch.float32}
    for losses, parameters, ledger, last in run_ranks(2, on_rank, 6, changed):
        assert losses[-1] < 0.5 * math.log(4)
        assert all(after <= before for before, after in itertools.pairwise(losses))
        assert last.products > 0
        dense = 4 * len(parameters) * ledger["curvature products"]["collectives"] / 2
        assert ledger["curvature products"]["bytes"] < 0.75 * dense


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"solver_vectors": "sharded"}, 'needs curvature="sharded"'),
        ({"product_code": "3-bit"}, "product_code: code: expected one of"),
    ],
)
def test_options_that_do_not_go_together(changed, message):
    with pytest.raises(ValueError, match=message):
        HessianFree(nn.Linear(2, 1).parameters(), **changed)


def with_an_empty_shard(rank, world, as_tensors, curvature):
    model, inputs, targets = problem()
    bounds = [0, 3, 3, 301] if as_tensors else [0, 3, 4, 301]  # too few for each batch to meet
    mine = slice(bounds[rank], bounds[rank + 1])
    data = inputs[mine], targets[mine]
    rows = data if as_tensors else list(zip(*data, strict=True))
    objective = Objective(model, F.cross_entropy, rows, everywhere=False, chunk=50)
    optimizer = HessianFree(model.parameters(), **options(curvature=curvature, curvature_batch=16))
    return [optimizer.step(objective) for _ in range(3)]


@pytest.mark.parametrize("as_tensors", [True, False])
@pytest.mark.parametrize("curvature", ["replicated", "sharded"])
def test_a_worker_may_hold_nothing(run_ranks, as_tensors, curvature):
    run = functools.partial(train, 3, curvature=curvature, curvature_batch=16)
    alone, bound = run()[0], rounding_bound(3, run)
    for losses in run_ranks(3, with_an_empty_shard, as_tensors, curvature):
        assert apart(alone, losses) <= bound


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", ["objective", "closure"])
def test_frozen_layers_are_left_alone(method, how):
    """The same as an optimiser that was given the other parameters alone."""
    found = []
    for everything in (True, False):
        model, inputs, targets = problem()
        model[0].requires_grad_(False)
        before = model[0].weight.clone()
        given = model.parameters() if everything else model[2].parameters()
        optimizer = HessianFree(given, **options(method=method))

        def closure(model=model, inputs=inputs, targets=targets):
            outputs = model(inputs)
            return F.cross_entropy(outputs, targets), outputs

        objective = Objective(model, F.cross_entropy, (inputs, targets))
        losses = [optimizer.step(objective if how == "objective" else closure) for _ in range(2)]
        resumed = HessianFree(model.parameters() if everything else model[2].parameters())
        resumed.load_state_dict(optimizer.state_dict())
        assert torch.equal(model[0].weight, before)
        assert losses[1] < losses[0]
        assert not everything or set(optimizer.state_dict()["state"]) == {2, 3}
        found.append((losses, model[2].weight.detach().clone()))
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("frozen_first", [True, False])
def test_what_is_frozen_or_unfrozen_later_is_refused(frozen_first):
    model, inputs, targets = problem()
    model[0].requires_grad_(not frozen_first)
    optimizer = HessianFree(model.parameters())
    objective = Objective(model, F.cross_entropy, (inputs, targets))
    optimizer.step(objective)
    model[0].requires_grad_(frozen_first)
    was = "frozen" if frozen_first else "trained"
    with pytest.raises(ValueError, match=rf"parameter 0, of shape \[8, 6\]: it was {was} when"):
        optimizer.step(objective)


def report_and_ledger(rank, world, changed, how):
    """For each step (its report, collectives the ledger entered meanwhile, passes it took)."""
    model, inputs, targets = problem(torch.float32)
    optimizer = HessianFree(model.parameters(), **options(**changed))
    half = slice(150 * rank, 150 * (rank + 1))
    objective = Objective(
        model,
        F.cross_entropy,
        (inputs[half], targets[half]) if how == "own" else (inputs, targets),
        everywhere=how != "own",
    )

    def closure():
        outputs = model(inputs[half])
        return F.cross_entropy(outputs, targets[half]), outputs

    found = []
    for _ in range(3):
        before, passes = communications(optimizer.ledger), optimizer.passes
        optimizer.step(closure if how == "closure" else objective)
        after = communications(optimizer.ledger)
        sent = {name: after[name] - before[name] for name in after}
        found.append((optimizer.last_step, sent, optimizer.passes - passes))
    return found


@pytest.mark.parametrize(
    ("changed", "how"),
    [
        ({"curvature": "replicated"}, "everywhere"),
        ({"curvature": "replicated"}, "own"),
        ({"curvature": "auto"}, "everywhere"),
        ({"curvature": "sharded", "method": "bicgstab"}, "everywhere"),
        ({"curvature": "sharded", "gradient_code": "8-bit", "product_code": "4-bit"}, "own"),
        (
            {"curvature": "sharded", "solver_vectors": "sharded", "preconditioner": "diagonal"},
            "everywhere",
        ),
        ({"preconditioner": "none", "gradient_code": "8-bit"}, "closure"),
    ],
    ids=str,
)
def test_a_report_says_what_was_really_sent_and_passed_over(run_ranks, changed, how):
    """The ledger is the oracle of sums, counts by hand of passes."""
    share = {"closure": 1.0, "own": 128 / 300, "everywhere": 128 / 301}[how]
    for found in run_ranks(2, report_and_ledger, changed, how):
        for i, (step, sent, passes) in enumerate(found):
            assert step.vector_sums == sent["communications"]
            assert step.small_sums == sent["scalar_communications"]
            in_batch, whole = step.products + step.candidates, step.trials
            if how == "closure":
                whole += 1  # its gradient
            elif i == 0:
                whole += 1  # later gradients are the trials before
            if changed.get("curvature") == "sharded":  # a Fisher matrix rides with each gradient
                in_batch += 1 + (i == 0)
            elif how != "closure" and changed["curvature"] == "replicated":
                in_batch += 1
            if changed.get("curvature") != "auto":
                assert passes == pytest.approx(whole + share * in_batch)


def with_dropout():
    net = nn.Sequential(nn.Linear(5, 6), nn.Dropout(0.5), nn.Linear(6, 3))
    inputs, targets = torch.randn(20, 5), torch.randint(0, 3, (20,))

    def closure():
        outputs = net(inputs)
        return F.cross_entropy(outputs, targets), outputs

    return net, closure


def with_a_new_minibatch():
    net = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))

    def closure():
        outputs = net(torch.randn(20, 5))
        return F.cross_entropy(outputs, torch.randint(0, 3, (20,))), outputs

    return net, closure


@pytest.mark.support("a closure that is another function at each call", "HessianFree", refused=True)
@pytest.mark.parametrize("method", ["gauss-newton", "bicgstab"])
@pytest.mark.parametrize("make", [with_dropout, with_a_new_minibatch])
def test_a_closure_that_changes_from_call_to_call_is_refused(make, method):
    net, closure = make()
    optimizer = HessianFree(net.parameters(), method=method)
    with pytest.raises(ValueError, match="closure: expected the same loss whenever it is called"):
        optimizer.step(closure)
