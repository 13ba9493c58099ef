"""Linear algebra on places in two vectors: the weights, and a workspace that holds what is computed.

Kernels are told places rather than given views of arrays: views would be counted at every call and would take most of
the time to compile. For the same reason sizes must be variables: for a constant a kernel would be compiled anew.
"""

import math

import numpy as np

from pointsman_policy.compiled import compiled, subroutine
from pointsman_policy.runtime.packing import Vector


@compiled
def _add_row(matrix: Vector, sources: Vector, results: Vector, n: int) -> None:
    for i in range(matrix.shape[0]):
        a = sources[n, i]
        row = matrix[i]
        for k in range(matrix.shape[1]):
            results[n, k] += a * row[k]


@compiled
def _add_two_rows(matrix: Vector, sources: Vector, results: Vector, n: int) -> None:
    """Add two rows' products with four inputs at a time, so that numbers are loaded and stored less often."""
    inputs, outputs = matrix.shape
    whole = inputs - inputs % 4
    one, two = results[n], results[n + 1]
    for i in range(0, whole, 4):
        a, b, c, d = sources[n, i], sources[n, i + 1], sources[n, i + 2], sources[n, i + 3]
        e, f, g, h = sources[n + 1, i], sources[n + 1, i + 1], sources[n + 1, i + 2], sources[n + 1, i + 3]
        p, q, r, s = matrix[i], matrix[i + 1], matrix[i + 2], matrix[i + 3]
        for k in range(outputs):
            one[k] += (a * p[k] + b * q[k]) + (c * r[k] + d * s[k])
            two[k] += (e * p[k] + f * q[k]) + (g * r[k] + h * s[k])
    for i in range(whole, inputs):
        for k in range(outputs):
            one[k] += sources[n, i] * matrix[i, k]
            two[k] += sources[n + 1, i] * matrix[i, k]


@subroutine
def add_product(vector: Vector, at: int, data: Vector, x: int, inputs: int, out: int, outputs: int, rows: int) -> None:
    """Add the product of inputs and the matrix at a place to the outputs, for so many rows of both."""
    matrix = vector[at : at + inputs * outputs].reshape(inputs, outputs)
    sources = data[x : x + rows * inputs].reshape(rows, inputs)
    results = data[out : out + rows * outputs].reshape(rows, outputs)
    for n in range(0, rows - 1, 2):
        _add_two_rows(matrix, sources, results, n)
    if rows % 2 == 1:
        _add_row(matrix, sources, results, rows - 1)


@subroutine
def fill(data: Vector, out: int, outputs: int, rows: int, vector: Vector, at: int) -> None:
    """Write one row of numbers into several."""
    for n in range(rows):
        for k in range(outputs):
            data[out + n * outputs + k] = vector[at + k]


@subroutine
def apply(vector: Vector, at: int, data: Vector, x: int, inputs: int, out: int, outputs: int, rows: int) -> None:
    """Write the outputs of the linear layer at a place, for so many rows of inputs."""
    fill(data, out, outputs, rows, vector, at + inputs * outputs)
    add_product(vector, at, data, x, inputs, out, outputs, rows)


@subroutine
def relu(data: Vector, at: int, count: int) -> None:
    """Raise what is negative to 0."""
    for k in range(at, at + count):
        data[k] = max(data[k], 0.0)


@subroutine
def tanh(data: Vector, at: int, count: int) -> None:
    """Take tanh by a rational function that is exact to 1e-7 and, unlike the library's, runs over several at once."""
    values = data[at : at + count]
    for k in range(count):
        one = min(max(values[k], -9.0), 9.0)
        square = one * one
        above = square * (square * -2.76076847742355e-16 + 2.00018790482477e-13) - 8.60467152213735e-11
        above = square * (square * above + 5.12229709037114e-08) + 1.48572235717979e-05
        above = square * (square * above + 6.37261928875436e-04) + 4.89352455891786e-03
        below = square * (square * 1.19825839466702e-06 + 1.18534705686654e-04) + 2.26843463243900e-03
        values[k] = one * above / (square * below + 4.89352518554385e-03)


@compiled
def softmax(data: Vector, at: int, count: int) -> None:
    """Turn numbers into weights that sum to 1."""
    top = -np.inf
    for k in range(at, at + count):
        top = max(top, data[k])
    total = 0.0
    for k in range(at, at + count):
        data[k] = math.exp(data[k] - top)
        total += data[k]
    for k in range(at, at + count):
        data[k] /= total
