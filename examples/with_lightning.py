"""The hook with Lightning (pip install lightning): a strategy of three lines.

torchrun --standalone --nproc-per-node 2 examples/with_lightning.py [STEPS]

DDPStrategy(ddp_comm_state=..., ddp_comm_hook=...) will not do: Lightning 2.6 ignores both on CPUs,
and it wants the state before the process group exists that the state needs.
"""

import sys

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import thinwire


class OneBitStrategy(DDPStrategy):
    def configure_ddp(self) -> None:
        super().configure_ddp()
        self.state = thinwire.compress(self.model)


class Classifier(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 10))

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        inputs, targets = batch
        loss = nn.functional.cross_entropy(self.net(inputs), targets)
        self.last = loss.item()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


torch.manual_seed(0)
inputs = torch.randn(10_000, 256)
data = TensorDataset(inputs, (inputs @ torch.randn(256, 10)).argmax(dim=1))
model, strategy = Classifier(), OneBitStrategy(process_group_backend="gloo")
trainer = Trainer(
    accelerator="cpu",
    devices=2,
    strategy=strategy,
    max_steps=int(sys.argv[1]) if len(sys.argv) > 1 else 150,
    logger=False,
    enable_checkpointing=False,
)
trainer.fit(model, DataLoader(data, batch_size=32, shuffle=True))  # Lightning shards it
if trainer.is_global_zero:
    sent = strategy.state.ledger.total().bytes / 1e6
    print(f"loss {model.last:.3f}, sent {sent:.1f} MB in {strategy.state.iteration} iterations")
