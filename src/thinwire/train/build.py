"""The optimisers recipes describe."""

from dataclasses import asdict
from dataclasses import fields as fields_of
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch import nn

from thinwire.exchange import SERIAL
from thinwire.optim import HessianFree, OneBitSGD, momentum_from_time_constant
from thinwire.train.codes import pair, registered
from thinwire.train.recipe import Recipe

EPS = 1e-10  # AdaGrad's divisor offset


def group_options(recipe: Recipe) -> dict[str, Any]:
    """Return the options of a recipe's parameters that stay what they are: all but the rate."""
    fields = recipe.optimizer
    return {
        "momentum": momentum_from_time_constant(fields.momentum_time_constant, recipe.minibatch),
        "weight_decay": fields.weight_decay,
        "adagrad": fields.adagrad,
        "eps": EPS,
        "batch_size": recipe.minibatch,
        "code": registered(recipe.exchange.code),
    }


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
