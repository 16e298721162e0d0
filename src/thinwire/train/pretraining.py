"""Greedy layer-wise discriminative pre-training: the stages of a run of minibatches.

A network of one hidden layer is trained on some samples, its output layer is replaced by another
hidden layer and a new output layer, all of it is trained again, and so on; the last stage is the
run itself (Seide, Li, Chen, Yu, ASRU 2011, S's reference 23).

Every stage has an optimiser, a learning rate schedule and an order of samples of its own. What the
one before still carried (residuals, momentum) is of gradients through an output layer that is gone.
"""

from torch import nn

from thinwire.data import MinibatchSampler
from thinwire.optim.objective import draw_seed
from thinwire.train.network import perceptron
from thinwire.train.prepare import Job
from thinwire.train.recipe import Recipe


def full_depth(recipe: Recipe) -> int:
    """Hidden layers in the last stage."""
    return len(recipe.model.hidden)


def first_depth(recipe: Recipe) -> int:
    """Hidden layers in the first stage."""
    return 1 if recipe.model.pretrain else full_depth(recipe)


def stage_model(job: Job, depth: int) -> nn.Module:
    """A stage's network, no layer of it trained."""
    full = depth == full_depth(job.recipe)
    return job.model if full else perceptron(job.recipe, job.dataset.train, job.task, depth)


def stage_seed(recipe: Recipe, depth: int) -> int:
    """Of a stage's order of samples; the last one's is what it is without pre-training."""
    full = depth == full_depth(recipe)
    return recipe.seed if full else draw_seed(recipe.seed, "pre-training", depth)


def stage_is_over(recipe: Recipe, depth: int, sampler: MinibatchSampler) -> bool:
    """Whether a stage before the last has had its samples, in whole minibatches."""
    samples = sampler.epoch * sampler.size + sampler.position
    return depth < full_depth(recipe) and samples >= recipe.model.pretrain


def stage_name(recipe: Recipe, depth: int) -> str:
    """What people are told."""
    full = full_depth(recipe)
    return "training" if depth == full else f"pre-training {depth} of {full} hidden layers"


def all_samples(recipe: Recipe, size: int) -> int:
    """Samples in all stages of a run on ``size`` samples, but for the filling of minibatches."""
    return recipe.epochs * size + (full_depth(recipe) - first_depth(recipe)) * recipe.model.pretrain
