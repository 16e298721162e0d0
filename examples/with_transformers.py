"""The hook with Hugging Face's Trainer (pip install transformers accelerate): a callback.

torchrun --standalone --nproc-per-node 2 examples/with_transformers.py [STEPS]

The model is made from a configuration, so nothing is downloaded.
"""

import sys
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

import thinwire


class ThinWire(TrainerCallback):
    """Compresses the DDP model that Trainer has made when training begins."""

    def __init__(self) -> None:
        self.trainer: Trainer | None = None

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.state = thinwire.compress(self.trainer.model_wrapped)


class Counting(Dataset):
    """Sequences that count upwards from somewhere, modulo 50."""

    def __len__(self) -> int:
        return 4096

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        words = (torch.arange(32) + number) % 50
        return {"input_ids": words, "labels": words}


torch.manual_seed(0)
sizes = {"vocab_size": 50, "n_positions": 32, "n_embd": 64, "n_layer": 2, "n_head": 4}
model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
arguments = TrainingArguments(
    "runs/transformers",
    max_steps=int(sys.argv[1]) if len(sys.argv) > 1 else 150,
    per_device_train_batch_size=16,
    learning_rate=3e-3,
    logging_steps=25,
    save_strategy="no",
    report_to="none",
    use_cpu=True,
    ddp_backend="gloo",
)
wire = ThinWire()
trainer = wire.trainer = Trainer(model, arguments, train_dataset=Counting(), callbacks=[wire])
done = trainer.train()
if trainer.is_world_process_zero():
    sent = wire.state.ledger.total().bytes / 1e6
    print(f"loss {done.training_loss:.3f}, sent {sent:.1f} MB")
