"""A code of your own: levels -a, 0 and +a, five values in a byte. Run it with

torchrun --standalone --nproc-per-node 4 examples/ternary_code.py
thinwire train mnist-onebit --exchange.code ternary_code:TERNARY --workers 4  # in this folder
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn

import thinwire
from thinwire.quantize import CodeDefaults, CodeSpec, Columns, register_code

POWERS = torch.tensor([1, 3, 9, 27, 81])  # five ternary digits are a number up to 242


class TernaryCode(CodeDefaults):
    """A column's levels are -a, 0 and +a: a payload is each column's a, and then the digits."""

    name = "ternary"

    def payload_bytes(self, columns: Columns) -> int:
        return 4 * columns.groups + -(-columns.values // 20) * 4  # 20 values in four bytes

    def quantise(self, values: Tensor, columns: Columns, payload: Tensor) -> None:
        size, lengths = values.abs(), columns.sums(torch.ones_like(values))
        threshold = 0.7 * columns.sums(size) / lengths  # NaN or infinite if a value is
        large = size > columns.spread(threshold)
        level = columns.sums(torch.where(large, size, 0)) / columns.sums(large).clamp(min=1)
        level = torch.where(lengths > 0, level + 0 * threshold, 0)  # so NaN spoils its column
        payload[: 4 * columns.groups].view(torch.float32).copy_(level)
        digits = values.new_ones(5 * (len(payload) - 4 * columns.groups), dtype=torch.int64)
        digits[: columns.values] += torch.where(large, values.sign(), 0).long()
        payload[4 * columns.groups :] = (digits.view(-1, 5) * POWERS.to(values.device)).sum(1)

    def reconstruct(self, payload: Tensor, columns: Columns) -> Tensor:
        level = payload[: 4 * columns.groups].view(torch.float32)
        digits = payload[4 * columns.groups :, None] // POWERS.to(payload.device) % 3 - 1
        return digits.view(-1)[: columns.values] * columns.spread(level)


TERNARY = CodeSpec("ternary", 1.6, "levels -a, 0, +a a column", TernaryCode, kind="ternary")

if __name__ == "__main__":
    register_code(TERNARY)
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 10))
    optimizer = thinwire.OneBitSGD(model.named_parameters(), lr=0.3, momentum=0.5, code="ternary")
    labels_of = torch.randn(256, 10)
    for step in range(60):
        torch.manual_seed(1 + dist.get_rank() + step * dist.get_world_size())
        inputs = torch.randn(64, 256)
        loss = nn.functional.cross_entropy(model(inputs), (inputs @ labels_of).argmax(dim=1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if dist.get_rank() == 0 and step % 20 == 19:
            print(f"loss {loss.item():.3f}  sent {optimizer.ledger.total().bytes / 1e6:.2f} MB")
    dist.destroy_process_group()
