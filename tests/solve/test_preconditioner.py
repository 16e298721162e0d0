"""Preconditioners against dense inverses."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinwire.solve import LinearLayer, cg, jacobi, kronecker


def randn(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@given(st.integers(0, 2**31), st.floats(1e-6, 10), st.sampled_from([0.5, 0.75, 1.0]))
def test_jacobi_is_a_power_of_the_damped_diagonal(seed, damping, exponent):
    diagonal, r = randn(seed, 9).square(), randn(seed + 1, 9)
    before = diagonal.clone()
    dense = torch.diag((diagonal + damping) ** exponent)
    found = jacobi(diagonal, damping, exponent)(r)
    torch.testing.assert_close(found, torch.linalg.solve(dense, r))
    assert before.equal(diagonal)


def test_jacobi_solves_a_diagonal_system_at_once():
    diagonal, b = randn(0, 30).square() + 0.01, randn(1, 30)
    solution = cg(lambda v: diagonal * v, b, preconditioner=jacobi(diagonal, 0.0, 1.0))
    assert solution.iterations == 1
    torch.testing.assert_close(solution.x, b / diagonal)


def factor(seed, n, rank):
    """Positive semi-definite, of low rank if need be: fewer samples than values."""
    V = randn(seed, n, rank)
    return V @ V.T / rank


@given(
    st.integers(0, 2**31),
    st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, 4), st.booleans()), min_size=1, max_size=3
    ),
    st.integers(1, 6),
    st.sampled_from([1e-3, 0.1, 1.0]),
)
def test_kronecker_is_the_dense_blocks_inverse(seed, shapes, rank, damping):
    layers, factors, blocks, size = [], [], [], 0
    for i, (outputs, inputs, bias) in enumerate(shapes):
        # The bias before the weight in the first layer: the order is the parameters' own.
        first = i == 0 and bias
        weight = size + (outputs if first else 0)
        at = size if first else size + outputs * inputs
        layers.append(LinearLayer(outputs, inputs, weight, at if bias else None))
        size += outputs * layers[-1].width
        A = factor(seed + 2 * i, layers[-1].width, rank)
        G = factor(seed + 2 * i + 1, outputs, rank)
        factors += [A.reshape(-1), G.reshape(-1)]
        blocks.append(torch.kron(G, A))  # of a row-major [outputs, width]
    r = randn(seed, size)
    kept = r.clone()
    found = kronecker(torch.cat(factors), layers, damping)(r)
    assert r.equal(kept)
    for layer, block in zip(layers, blocks, strict=True):
        damped = block + damping * torch.eye(len(block), dtype=torch.float64)
        expected = torch.linalg.solve(damped, layer.matrix(r).reshape(-1))
        torch.testing.assert_close(layer.matrix(found).reshape(-1), expected)


@given(st.integers(0, 2**31))
def test_kronecker_is_symmetric_and_positive(seed):
    layer = LinearLayer(outputs=3, inputs=2, weight=0, bias=6)
    factors = torch.cat([factor(seed, 3, 2).reshape(-1), factor(seed + 1, 3, 2).reshape(-1)])
    apply = kronecker(factors, [layer], 0.01)
    M = torch.stack([apply(e) for e in torch.eye(9, dtype=torch.float64)])
    torch.testing.assert_close(M, M.T)
    assert float(torch.linalg.eigvalsh(M)[0]) > 0


def test_a_layer_reads_and_writes_where_it_is():
    layer = LinearLayer(outputs=2, inputs=3, weight=4, bias=1)
    vector = torch.arange(12.0)
    matrix = layer.matrix(vector)
    assert matrix.tolist() == [[4, 5, 6, 1], [7, 8, 9, 2]]
    target = torch.full((12,), -1.0)
    layer.put(matrix, target)
    assert target.tolist() == [-1, 1, 2, -1, 4, 5, 6, 7, 8, 9, -1, -1]


@pytest.mark.parametrize("bias", [None, 6])
def test_width_counts_the_bias(bias):
    assert LinearLayer(2, 3, 0, bias).width == (3 if bias is None else 4)
