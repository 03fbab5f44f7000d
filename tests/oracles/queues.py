"""Write queues.json: reference numbers of queues, by other methods than tuner's.

Run ``python tests/oracles/queues.py`` (a minute, NumPy only). Nothing here imports tuner.

- Erlang B and C, M/M/c/K: sums of exact fractions.
- M/M/c sojourns: the wait of a customer mixed over the states it finds, each an Erlang law,
  instead of the closed form.
- M/D/c: with constant service customers take the servers in turn, so the wait is that of
  E_c/D/1, the maximum of a random walk; Spitzer's identity on a lattice by FFT.
- M/G/1: the wait is a geometric number of equilibrium residuals (Beekman 1968), convolved
  on a lattice by FFT.
- Shortest queue: power iteration on the unsorted chain.
- Contention: detailed balance as a linear system. Closed loop: the machine-repair chain.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

QUANTILES = (0.5, 0.95, 0.99)


def erlang_b(c: int, a: Fraction) -> Fraction:
    terms = [a**k / math.factorial(k) for k in range(c + 1)]
    return terms[-1] / sum(terms)


def erlang_c(c: int, a: Fraction) -> Fraction:
    head = sum(a**k / math.factorial(k) for k in range(c))
    last = a**c / math.factorial(c) * c / (c - a)
    return last / (head + last)


def bisect(survival: Callable[[float], float], share: float, high: float) -> float:
    low = 0.0
    for _ in range(45):
        mid = (low + high) / 2.0
        low, high = (mid, high) if survival(mid) > share else (low, mid)
    return (low + high) / 2.0


def erlang_tails(rate: float, stages: int, t: float) -> np.ndarray:
    """P(Erlang(k, rate) > t) for k = 1..stages by summing the Poisson law."""
    x = rate * t
    logs = np.array(
        [
            -x + k * math.log(x) - math.lgamma(k + 1) if x > 0 else (0.0 if k == 0 else -np.inf)
            for k in range(stages)
        ]
    )
    return np.cumsum(np.exp(logs))


def mmc_sojourn(c: int, a: float) -> list[float]:
    levels = 250
    p = np.ones(c + levels)
    for k in range(1, c + levels):
        p[k] = p[k - 1] * a / min(k, c)
    p /= p.sum()

    def survival(t: float) -> float:
        # P(S > t) + int P(W > t - s) e^-s ds by Simpson's rule.
        mesh = np.linspace(0.0, t, 401)
        waits = np.array([float(erlang_tails(c, levels, m) @ p[c:]) for m in mesh])
        weight = np.full(401, 2.0)
        weight[1::2] = 4.0
        weight[[0, -1]] = 1.0
        return math.exp(-t) + float(weight @ (waits * np.exp(mesh - t))) * t / 1200.0

    return [bisect(survival, 1.0 - q, 30.0) for q in QUANTILES]


def mgi_wait(
    rho: float, equilibrium_cdf: Callable[[np.ndarray], np.ndarray], step: float, size: int
) -> np.ndarray:
    """P(W in cell k) for mean service 1; the equilibrium residual rounded to the lattice."""
    edges = (np.arange(size) + 0.5) * step
    cdf = equilibrium_cdf(edges)
    pmf = np.diff(cdf, prepend=0.0)
    damp = np.exp(-30.0 * np.arange(size) / size)
    f = np.fft.rfft(pmf * damp)
    return np.fft.irfft((1.0 - rho) / (1.0 - rho * f), size) / damp


def quantiles_of_sum(
    wait: np.ndarray, rho: float, step: float, service_cdf: Callable[[np.ndarray], np.ndarray]
) -> list[float]:
    """Quantiles of W + S with W on the lattice and a continuous S exact."""
    keep = np.cumsum(wait) < 1.0 - 1e-9
    w, at = wait[keep], (np.arange(len(wait)) * step)[keep]

    def survival(t: float) -> float:
        inside = at < t
        return 1.0 - float(w[inside] @ service_cdf(t - at[inside]))

    return [bisect(survival, 1.0 - q, 30.0 / (1.0 - rho)) for q in QUANTILES]


def quantiles_with_atoms(
    wait: np.ndarray, rho: float, step: float, atoms: list[tuple[float, float]]
) -> list[float]:
    """Quantiles of W + S for a discrete S: W is continuous beside its atom at 0."""
    edges = np.concatenate([[0.0], (np.arange(len(wait)) + 0.5) * step])
    cdf = np.concatenate([[1.0 - rho], np.cumsum(wait)])

    def survival(t: float) -> float:
        return 1.0 - sum(p * float(np.interp(t - v, edges, cdf)) for v, p in atoms if t >= v)

    return [bisect(survival, 1.0 - q, 30.0 / (1.0 - rho)) for q in QUANTILES]


def mixture(
    cdfs: list[tuple[float, Callable[[np.ndarray], np.ndarray]]],
) -> Callable[[np.ndarray], np.ndarray]:
    return lambda t: sum(p * f(t) for p, f in cdfs)


def exponential(mean: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda t: -np.expm1(-np.maximum(t, 0.0) / mean)


def two_point_cdf(t: np.ndarray) -> np.ndarray:
    return 0.9 * (t >= 0.5) + 0.1 * (t >= 5.5)


def two_point_equilibrium(t: np.ndarray) -> np.ndarray:
    return 0.9 * np.minimum(t, 0.5) + 0.1 * np.minimum(t, 5.5)


def erlang2_cdf(t: np.ndarray) -> np.ndarray:
    x = 2.0 * np.maximum(t, 0.0)
    return 1.0 - np.exp(-x) * (1.0 + x)


LN_SIGMA = math.sqrt(math.log(2.0))
LN_MU = -0.5 * math.log(2.0)
MESH = np.linspace(-9.0, 9.0, 180_001)
TABLE = np.array([0.5 * math.erfc(-z / math.sqrt(2.0)) for z in MESH])


def normal_cdf(z: np.ndarray) -> np.ndarray:
    return np.interp(z, MESH, TABLE)


def lognormal_cdf(t: np.ndarray) -> np.ndarray:
    return normal_cdf((np.log(np.maximum(t, 1e-12)) - LN_MU) / LN_SIGMA)


def lognormal_equilibrium(t: np.ndarray) -> np.ndarray:
    # E[min(S, t)] with mean 1.
    z = (np.log(t) - LN_MU) / LN_SIGMA
    return normal_cdf(z - LN_SIGMA) + t * (1.0 - normal_cdf(z))


LAWS = {
    "deterministic": (lambda t: (t >= 1.0) * 1.0, lambda t: np.minimum(t, 1.0)),
    "erlang2": (erlang2_cdf, mixture([(0.5, exponential(0.5)), (0.5, erlang2_cdf)])),
    "hyperexponential": (
        mixture([(0.9, exponential(0.5)), (0.1, exponential(5.5))]),
        mixture([(0.45, exponential(0.5)), (0.55, exponential(5.5))]),
    ),
    "two_point": (two_point_cdf, two_point_equilibrium),
    "lognormal": (lognormal_cdf, lognormal_equilibrium),
}


ATOMS = {"deterministic": [(1.0, 1.0)], "two_point": [(0.5, 0.9), (5.5, 0.1)]}


def mdc_wait(c: int, a: float, step: float, size: int) -> np.ndarray:
    """P(W in cell k) of E_c/D/1 with D = 1 by Spitzer's identity on a circle.

    A tilt makes the walk's law sum to less than 1 so that both halves decay.
    """
    k = np.arange(-size // 2, size // 2)
    gap_edges = 1.0 - (k[::-1] + 0.5) * step  # X = 1 - A rounded to the lattice
    x = np.maximum(a * gap_edges, 0.0)
    tail = np.exp(-x) * sum(x**i / math.factorial(i) for i in range(c))
    # P(X <= (k + .5) step) = P(A >= 1 - (k + .5) step)
    cdf = tail[::-1]
    pmf = np.diff(cdf, prepend=0.0)
    tilt = 0.5 * 2.0 * (1.0 - a / c) * c
    weights = pmf * np.exp(tilt * k * step)
    phi = np.fft.fft(np.fft.ifftshift(weights))
    assert weights.sum() < 1.0
    c_n = np.fft.fftshift(np.fft.ifft(-np.log(1.0 - phi)).real) * np.exp(-tilt * k * step)
    positive = np.where(k > 0, c_n, 0.0)[size // 2 :]
    half = len(positive)
    f = np.fft.fft(positive, 2 * half)
    return np.fft.ifft(np.exp(f - positive.sum())).real[:half]


def shortest_queue(n: int, rho: float) -> list[float]:
    """Mean and quantiles by power iteration on the unsorted, uniformised chain."""
    levels = math.ceil(math.log(1e-9) / (n * math.log(rho))) + 6
    shape = (levels + 1,) * n
    grid = np.indices(shape)
    ties = (grid == grid.min(axis=0)).astype(float)
    join = ties / ties.sum(axis=0)
    join[:, grid.min(axis=0) == levels] = 0.0
    full = grid == levels
    rate = n * rho
    p = np.zeros(shape)
    p[(0,) * n] = 1.0
    scale = rate + n
    previous = 0.0
    for sweep in range(200_000):
        flow = np.zeros(shape)
        for i in range(n):
            up = np.where(full[i], 0.0, p * join[i] * rate)
            down = np.where(grid[i] > 0, p, 0.0)
            flow -= up + down
            flow += np.roll(up, 1, axis=i) + np.roll(down, -1, axis=i)
        p = p + flow / scale
        if sweep % 500 == 499:
            mean = float((p * grid.sum(axis=0)).sum())
            if abs(mean - previous) < 1e-9:
                break
            previous = mean
    p /= p.sum()
    shortest = np.bincount(grid.min(axis=0).ravel(), p.ravel())

    def survival(t: float) -> float:
        return float(erlang_tails(1.0, len(shortest), t) @ shortest)

    mean = float((p * grid.sum(axis=0)).sum()) / rate
    return [mean, *(bisect(survival, 1.0 - q, 100.0) for q in QUANTILES)]


def contention(lam: float) -> list[float]:
    """Mean sojourn and P(empty) from the generator's null space."""
    states = 600
    k = np.arange(1, states)
    j = np.minimum(k, 16)
    death = j / (1.0 + 0.15 * (j - 1) + 0.004 * j * (j - 1))
    q = np.diag(np.full(states - 1, lam), 1) + np.diag(death, -1)
    q -= np.diag(q.sum(axis=1))
    system = np.vstack([q.T[1:], np.ones(states)])
    right = np.zeros(states)
    right[-1] = 1.0
    p = np.linalg.solve(system, right)
    return [float(p @ np.arange(states)) / lam, float(p[0])]


def machine_repair(users: int, service: float, think: float) -> list[float]:
    """Throughput and response of N users: the chain of how many are at the server."""
    weights = [1.0]
    for k in range(1, users + 1):
        weights.append(weights[-1] * (users - k + 1) / think * service)
    busy = 1.0 - weights[0] / sum(weights)
    throughput = busy / service
    return [throughput, users / throughput - think]


def blocking(c: int, places: int, a: Fraction) -> float:
    weights = [Fraction(1)]
    for k in range(1, places + 1):
        weights.append(weights[-1] * a / min(k, c))
    return float(weights[-1] / sum(weights))


def main() -> None:
    pairs = [(1, "4/5"), (4, "16/5"), (4, "18/5"), (16, "72/5"), (32, "144/5")]
    out: dict[str, object] = {
        "erlang_b": [[c, float(Fraction(a)), float(erlang_b(c, Fraction(a)))] for c, a in pairs],
        "erlang_c": [[c, float(Fraction(a)), float(erlang_c(c, Fraction(a)))] for c, a in pairs],
        "mmc_sojourn": [
            [c, a, mmc_sojourn(c, a)]
            for c, a in ((1, 0.5), (1, 0.8), (4, 2.8), (4, 3.2), (4, 3.6), (16, 14.4))
        ],
        "mmck_blocking": [
            [c, k, float(Fraction(a)), blocking(c, k, Fraction(a))]
            for c, k, a in ((1, 5, "9/10"), (4, 8, "18/5"), (4, 12, "22/5"), (4, 4, "16/5"))
        ],
        "contention": [[lam, *contention(lam)] for lam in (0.5, 2.0, 2.6)],
        "closed_loop": [[n, *machine_repair(n, 0.1, 1.0)] for n in (5, 10, 20)],
        "shortest_queue": [
            [n, rho, *shortest_queue(n, rho)] for n, rho in ((2, 0.5), (2, 0.8), (3, 0.5), (3, 0.8))
        ],
    }
    step, size = 1.0 / 512.0, 1 << 19
    mg1 = []
    for name, (cdf, equilibrium) in LAWS.items():
        for rho in (0.5, 0.7, 0.8, 0.9):
            wait = mgi_wait(rho, equilibrium, step, size)
            if name in ATOMS:
                found = quantiles_with_atoms(wait, rho, step, ATOMS[name])
            else:
                found = quantiles_of_sum(wait, rho, step, cdf)
            mg1.append([name, rho, found])
    out["mg1_sojourn"] = mg1
    mdc = []
    for c, a in ((1, 0.8), (4, 3.2), (4, 3.6)):
        wait = mdc_wait(c, a, step, 1 << 18)
        tail = 1.0 - np.cumsum(wait) + 0.5 * wait  # half a cell: W is continuous above 0
        at = np.arange(len(wait)) * step
        found = [1.0 + float(np.interp(q - 1.0, -tail, at)) for q in QUANTILES]
        mdc.append([c, a, found, float(wait[0])])
    out["mdc_sojourn"] = mdc
    rows = [
        f"  {json.dumps(key)}: [\n    " + ",\n    ".join(json.dumps(r) for r in value) + "\n  ]"
        for key, value in out.items()
    ]
    Path(__file__).with_name("queues.json").write_text("{\n" + ",\n".join(rows) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main()
