"""The optimisers recipes describe."""

from dataclasses import asdict
from dataclasses import fields as fields_of
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from thinwire.exchange import SERIAL
from thinwire.optim import HessianFree, LocalSteps, OneBitSGD, momentum_from_time_constant
from thinwire.train.codes import pair, registered
from thinwire.train.recipe import Recipe

EPS = 1e-10  # AdaGrad's divisor offset
_OF_ROUNDS = ("error_feedback", "axis", "start_steps", "bucket_mb", "max_skips")

Optimizer = OneBitSGD | LocalSteps
"""Of a run of minibatches."""


def group_options(recipe: Recipe) -> dict[str, Any]:
    """Return the options of a recipe's parameters that stay what they are: all but the rate.

    With local steps they are the anchor's, and its rate stays too.
    """
    if recipe.local.every:
        outer = torch.optim.SGD([torch.zeros(1)], **_outer_rates(recipe))
        return {**outer.defaults, "code": registered(recipe.exchange.code)}
    return {
        **_own_rates(recipe),
        "adagrad": recipe.optimizer.adagrad,
        "eps": EPS,
        "batch_size": recipe.minibatch,
        "code": registered(recipe.exchange.code),
    }


def build_optimizer(
    recipe: Recipe,
    model: nn.Module,
    process_group: dist.ProcessGroup | None = None,
    after: Optimizer | None = None,
) -> Optimizer:
    """Of a recipe whose algorithm is "sgd": with local steps, or with an exchange in every step.

    See ``build_sgd`` for the arguments.
    """
    if recipe.local.every:
        return build_local(recipe, model)
    assert not isinstance(after, LocalSteps)  # a run does not go from the one to the other
    return build_sgd(recipe, model, process_group, after)


def build_local(recipe: Recipe, model: nn.Module) -> LocalSteps:
    """Of a recipe with a [local] section, whose [optimizer] every worker has for itself."""
    exchange, local, rates = recipe.exchange, recipe.local, _own_rates(recipe)
    inner = torch.optim.SGD(model.parameters(), recipe.optimizer.lr, **rates)
    return LocalSteps(
        inner,
        model.named_parameters(),
        every=local.every,
        delay=local.delay,
        lr=local.lr,
        momentum=local.momentum,
        code=registered(exchange.code),
        start=registered(exchange.start),
        **{name: getattr(exchange, name) for name in _OF_ROUNDS},
        timeout=timedelta(seconds=recipe.timeout),
    )


def _own_rates(recipe: Recipe) -> dict[str, Any]:
    """Of [optimizer], the learning rate apart."""
    fields = recipe.optimizer
    return {
        "momentum": momentum_from_time_constant(fields.momentum_time_constant, recipe.minibatch),
        "weight_decay": fields.weight_decay,
    }


def _outer_rates(recipe: Recipe) -> dict[str, Any]:
    """Of torch's SGD that moves the anchor."""
    momentum = recipe.local.momentum
    return {"lr": recipe.local.lr, "momentum": momentum, "nesterov": momentum > 0}


def build_sgd(
    recipe: Recipe,
    model: nn.Module,
    process_group: dist.ProcessGroup | None = None,
    after: OneBitSGD | None = None,
) -> OneBitSGD:
    """Of a recipe whose algorithm is "sgd".

    Args:
        recipe: the fields.
        model: what is trained.
        process_group: the workers that exchange their gradients.
        after: the optimiser of a network whose place this one takes.
    """
    exchange = recipe.exchange
    options = {option.name: getattr(exchange, option.name) for option in fields_of(exchange)}
    options |= group_options(recipe)
    if exchange.start != SERIAL:
        options["start"] = registered(exchange.start)
    return OneBitSGD(
        model.named_parameters(),
        recipe.optimizer.lr,
        **options,
        process_group=process_group,
        timeout=timedelta(seconds=recipe.timeout),
        after=after,
    )


def build_hessian_free(recipe: Recipe, model: nn.Module) -> HessianFree:
    """Of a recipe whose algorithm is "hessian-free".

    Raises:
        ValueError: a field is out of range.
    """
    fields = asdict(recipe.hessian_free)
    del fields["iterations"]
    fields["gradient_code"], fields["product_code"] = pair(registered(fields.pop("codes")))
    given = {name: value for name, value in fields.items() if value is not None}
    return HessianFree(model.named_parameters(), **given, seed=recipe.seed)
