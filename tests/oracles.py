"""Slow twins of what the library computes: loops in float64, nothing shared with it."""

import itertools

import torch


def decode(codes, codebooks, scales):
    """Sum the codewords of every group, one at a time."""
    out, groups, books = codes.shape
    dense = torch.zeros(out, groups, codebooks.shape[2], dtype=torch.float64)
    for o in range(out):
        for j in range(groups):
            for m in range(books):
                dense[o, j] += scales[o].double() * codebooks[m, int(codes[o, j, m])].double()
    return dense.flatten(1)


def row_error(delta, hessian):
    """e H e^T of one row."""
    return float(delta.double() @ hessian.double() @ delta.double())


def em_cost(problem, o, j, codeword):
    """Squared distance of one vector to a codeword in its group's metric."""
    delta = (problem.vectors[o, j] - codeword).double()
    return float(delta @ problem.metrics[j].double() @ delta)


def em_objective(problem, codebook, codes):
    """F, one vector at a time."""
    out, groups = codes.shape
    return sum(
        float(problem.row_weights[o]) * em_cost(problem, o, j, codebook[int(codes[o, j])])
        for o in range(out)
        for j in range(groups)
    )


def best_row_codes(row, hessian, codebooks, scale):
    """Codes of one row by trying every combination of all groups and books."""
    books, size, group = codebooks.shape
    groups = len(row) // group
    choices = list(itertools.product(range(size), repeat=books))
    best, found = float("inf"), None
    for words in itertools.product(choices, repeat=groups):
        codes = torch.tensor(words)[None]  # [1, groups, books]
        error = row_error(row - decode(codes, codebooks, scale[None])[0], hessian)
        if error < best:
            best, found = error, codes[0]
    return found, best


def best_codes(problem, weight):
    """`best_row_codes` of every row."""
    rows = zip(problem.weight, weight.scales, strict=True)
    return torch.stack(
        [best_row_codes(row, problem.hessian, weight.codebooks, s)[0] for row, s in rows]
    )


def beam_row(row, hessian, codebooks, scale, codes, width):
    """Beam search over one row as the papers say it: every hypothesis decoded from scratch."""
    books, size, group = codebooks.shape
    beam = [codes.clone()]  # [groups, books] each
    for j in range(len(row) // group):
        for m in range(books):
            tried = []
            for hypothesis in beam:
                for k in range(size):
                    new = hypothesis.clone()
                    new[j, m] = k
                    delta = row - decode(new[None], codebooks, scale[None])[0]
                    tried.append((row_error(delta, hessian), new))
            tried.sort(key=lambda pair: pair[0])
            beam = [new for _, new in tried[:width]]
    return beam[0]
