"""Models, losses and batches whose dense curvature is small enough to compute."""

import torch
from torch import nn
from torch.nn import functional as F


class Attention(nn.Module):
    """One attention layer over 3 positions, then a classifier."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(2, 6)
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        q, k, v = self.qkv(x.unflatten(1, (3, 2))).chunk(3, dim=-1)
        return self.out(F.scaled_dot_product_attention(q, k, v).flatten(1))


class Tied(nn.Module):
    """The same weight matrix twice, and a parameter that nothing uses."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.unused = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def conv():
    norm = nn.BatchNorm1d(2).eval()
    norm.running_mean.uniform_(-1, 1)
    return nn.Sequential(
        nn.Unflatten(1, (1, 6)),
        nn.Conv1d(1, 2, 3),
        norm,
        nn.GELU(),
        nn.MaxPool1d(2),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


def frozen():
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
    model[0].weight.requires_grad_(False)
    return model


class Focal(nn.CrossEntropyLoss):
    """A loss that torch's own is the base class of, and no more."""

    def forward(self, outputs, targets):
        return (F.cross_entropy(outputs, targets, reduction="none") ** 2).mean()


def huber(outputs, targets):
    return F.huber_loss(outputs, targets)


MODELS = {
    "linear": lambda: nn.Linear(6, 3),
    "sigmoid": lambda: nn.Sequential(nn.Linear(6, 4), nn.Sigmoid(), nn.Linear(4, 3)),
    "relu": lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3, bias=False)),
    "conv": conv,
    "attention": Attention,
    "tied": Tied,
    "frozen": frozen,
    "dropout in eval": lambda: nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5)).eval(),
}
LOSSES = {
    "cross entropy": F.cross_entropy,
    "smoothed": nn.CrossEntropyLoss(label_smoothing=0.1),
    "weighted": nn.CrossEntropyLoss(ignore_index=1),
    "squared": nn.MSELoss(),
    "logistic": nn.BCEWithLogitsLoss(),
    "huber": huber,
    "focal": Focal(),
    "linear": lambda outputs, targets: (outputs * targets).mean(),
}
CLASSES = ("cross entropy", "smoothed", "weighted", "focal")


def case(model: str, loss: str, samples: int = 12):
    """(module, loss, (inputs, targets)) in float64."""
    torch.manual_seed(0)
    module = MODELS[model]().double()
    inputs = torch.randn(samples, 6, dtype=torch.float64)
    with torch.no_grad():
        outputs = module(inputs)
    if loss in CLASSES:
        targets = torch.randint(3, (samples,))
        targets[:2] = 0  # some class is never ignored
    else:
        targets = torch.rand_like(outputs)
    return module, LOSSES[loss], (inputs, targets)
