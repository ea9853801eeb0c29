"""A Gaussian process over points with noisy costs: fitted, sampled as a function, and searched for its minimum.

Pure numerics on arrays. Does not own what a coordinate means (coordinates.py) or what is proposed (parameters.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_solve, cholesky
from scipy.optimize import minimize

Array = npt.NDArray[np.float64]

_ROOT5 = math.sqrt(5)
_JITTER = 1e-8
_FEATURES = 256
_LOG_LENGTH_SD = 1.0
_VARIANCE_OVER_DATA = math.log(2)
_LOG_VARIANCE_SD = 1.5
_STRUCTURE_SHARE = math.log(0.5)


@dataclass(frozen=True)
class Data:
    """What is known: points, standardised costs, and how noisy they are."""

    points: Array
    """Shape (n, d)."""
    costs: Array
    """Shape (n,), of mean about 0 and deviation about 1; lower is better."""
    noise: Array
    """Shape (n,): variance of each cost about its true one."""
    structures: npt.NDArray[np.int64]
    """Shape (n,): which program, its literals aside, a cost belongs to."""


@dataclass(frozen=True)
class Fit:
    """Parameters of the covariance: log lengths, log variance, and log variance of the structures' offsets."""

    parameters: Array
    """Shape (d + 2,)."""

    @property
    def dimensions(self) -> int:
        """Coordinates of a point."""
        return len(self.parameters) - 2

    @property
    def inverse_squares(self) -> Array:
        """One over the squared length along each coordinate."""
        return np.asarray(np.exp(-2 * self.parameters[: self.dimensions]))

    @property
    def variance(self) -> float:
        """How far the function strays from its mean."""
        return math.exp(self.parameters[self.dimensions])

    @property
    def offsets(self) -> float:
        """Variance of the offset that each structure has for itself."""
        return math.exp(self.parameters[self.dimensions + 1])

    def correlation(self, first: Array, second: Array) -> Array:
        """Return the Matern 5/2 correlation of points, shape (len(first), len(second))."""
        scale = np.sqrt(self.inverse_squares)
        one, two = first * scale, second * scale
        squared = (one**2).sum(1)[:, None] + (two**2).sum(1)[None, :] - 2 * one @ two.T
        return _matern(np.maximum(squared, 0.0))


def fit(data: Data, iterations: int = 20) -> Fit:
    """Return the most probable covariance.

    The prior of a length grows with the square root of the number of coordinates, so that many of them leave the
    function as smooth as few do (Hvarfner, Hellsten, Nardi: Vanilla Bayesian Optimization Performs Great in High
    Dimensions, ICML 2024). Left out: a noise of its own; it is known from replicates.
    """
    dimensions = data.points.shape[1]
    length = math.log(0.6 * math.sqrt(dimensions))
    spread = math.log(max(float(np.var(data.costs)), 1e-12))
    centre = np.r_[np.full(dimensions, length), spread + _VARIANCE_OVER_DATA, spread + _STRUCTURE_SHARE]
    if len(data.costs) < 3:
        return Fit(centre)
    widths = np.r_[np.full(dimensions, _LOG_LENGTH_SD), _LOG_VARIANCE_SD, _LOG_VARIANCE_SD]
    objective = _Evidence(data, centre, widths)
    bounds = [(value - 4 * width, value + 4 * width) for value, width in zip(centre, widths, strict=True)]
    found = minimize(objective, centre, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": iterations})
    return Fit(np.asarray(found.x))


class _Evidence:
    """Minus the log posterior of the parameters, with its gradient (Rasmussen and Williams 2006, equation 5.9)."""

    def __init__(self, data: Data, centre: Array, widths: Array) -> None:
        self._data = data
        self._centre = centre
        self._widths = widths
        differences = data.points[:, None, :] - data.points[None, :, :]
        self._squares = np.ascontiguousarray((differences**2).reshape(-1, data.points.shape[1]).T)  # (d, n * n)
        self._same = (data.structures[:, None] == data.structures[None, :]).astype(float)

    def __call__(self, parameters: Array) -> tuple[float, Array]:
        at, count = Fit(parameters), len(self._data.costs)
        squared = (at.inverse_squares @ self._squares).reshape(count, count)
        root = np.sqrt(squared + 1e-16)
        decay = np.exp(-_ROOT5 * root)
        smooth = at.variance * (1 + _ROOT5 * root + 5 / 3 * squared) * decay
        offsets = at.offsets * self._same
        try:
            factor = cholesky(smooth + offsets + np.diag(self._data.noise + _JITTER * at.variance), lower=True)
        except LinAlgError:
            return 1e10, np.zeros_like(parameters)
        inverse = cho_solve((factor, True), np.eye(count))
        weights = inverse @ self._data.costs
        value = 0.5 * float(self._data.costs @ weights) + float(np.log(np.diag(factor)).sum())
        slack = inverse - np.outer(weights, weights)
        steep = slack * (at.variance * 5 / 3 * (1 + _ROOT5 * root) * decay)
        lengths = 0.5 * (self._squares @ steep.ravel()) * at.inverse_squares
        gradient = np.r_[lengths, 0.5 * float((slack * smooth).sum()), 0.5 * float((slack * offsets).sum())]
        z = (parameters - self._centre) / self._widths
        return value + 0.5 * float(z @ z), gradient + z / self._widths


class Surrogate:
    """A fitted process, conditioned on the data, as seen from one structure."""

    def __init__(self, data: Data, at: Fit, structure: int) -> None:
        """Condition the process.

        Args:
            data: what is known; where a trial is in flight, its cost is what `mean` said, and counts as known.
            at: the covariance.
            structure: the one whose costs are asked for.
        """
        self._data = data
        self._at = at
        self._here = at.offsets * (data.structures == structure)
        same = data.structures[:, None] == data.structures[None, :]
        covariance = at.variance * at.correlation(data.points, data.points) + at.offsets * same
        noise = np.diag(data.noise + _JITTER * at.variance)
        self._factor = cholesky(covariance + noise, lower=True)
        self._weights = cho_solve((self._factor, True), data.costs)

    def mean(self, points: Array) -> Array:
        """Return the expected costs at points of shape (m, d)."""
        covariance = self._at.variance * self._at.correlation(points, self._data.points) + self._here
        return np.asarray(covariance @ self._weights)

    def sample(self, boldness: float, rng: np.random.Generator) -> Path:
        """Draw a function from the process; at a boldness below 1 it stays nearer to the mean, at 0 it is the mean.

        By Matheron's rule on random Fourier features (Wilson and others: Efficiently Sampling Functions from Gaussian
        Process Posteriors, ICML 2020), so that it can be evaluated anywhere, with its gradient.
        """
        dimensions = self._at.dimensions
        tails = np.sqrt(5 / rng.chisquare(5, size=(_FEATURES, 1)))
        waves = rng.normal(size=(_FEATURES, dimensions)) * tails * np.sqrt(self._at.inverse_squares)
        phases = rng.uniform(0, 2 * math.pi, _FEATURES)
        heights = rng.normal(size=_FEATURES) * math.sqrt(2 / _FEATURES * self._at.variance)
        names, index = np.unique(self._data.structures, return_inverse=True)
        offsets = rng.normal(size=len(names))[index] * math.sqrt(self._at.offsets)
        prior = np.cos(self._data.points @ waves.T + phases) @ heights + offsets
        errors = rng.normal(size=len(prior)) * np.sqrt(self._data.noise)
        update = cho_solve((self._factor, True), self._data.costs - prior - errors)
        weights = (1 - boldness) * self._weights + boldness * update
        return Path(self._at, self._data.points, weights, waves, phases, boldness * heights)


@dataclass(frozen=True)
class Path:
    """One function; the constant offset of its structure is left out, since only differences matter."""

    at: Fit
    points: Array
    weights: Array
    waves: Array
    phases: Array
    heights: Array

    def values(self, points: Array) -> Array:
        """Return the function's values at points of shape (m, d)."""
        smooth = self.at.variance * self.at.correlation(points, self.points) @ self.weights
        return np.asarray(smooth + np.cos(points @ self.waves.T + self.phases) @ self.heights)

    def value_and_slope(self, point: Array) -> tuple[float, Array]:
        """Return the value and the gradient at one point."""
        angles = self.waves @ point + self.phases
        differences = point - self.points
        squared = (differences**2) @ self.at.inverse_squares
        root = np.sqrt(squared + 1e-16)
        decay = np.exp(-_ROOT5 * root)
        value = self.at.variance * float(_matern(squared) @ self.weights) + float(np.cos(angles) @ self.heights)
        pull = self.weights * (self.at.variance * 5 / 3 * (1 + _ROOT5 * root) * decay)
        slope = -(pull @ differences) * self.at.inverse_squares - (np.sin(angles) * self.heights) @ self.waves
        return value, np.asarray(slope)

    def descend(self, start: Array, low: Array, high: Array, iterations: int = 25) -> tuple[Array, float]:
        """Return the minimum that is reached from a point within a box, and its value."""
        found = minimize(
            self.value_and_slope,
            np.clip(start, low, high),
            jac=True,
            method="L-BFGS-B",
            bounds=list(zip(low, high, strict=True)),
            options={"maxiter": iterations},
        )
        return np.asarray(found.x), float(found.fun)


def _matern(squared: Array) -> Array:
    root = np.sqrt(squared + 1e-16)
    return np.asarray((1 + _ROOT5 * root + 5 / 3 * squared) * np.exp(-_ROOT5 * root))
