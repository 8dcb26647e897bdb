"""A Kalman filter of one coordinate of an object, which moves at a constant speed, but for the moments when it turns.

The costs that it gives are twice the negative logarithm of a likelihood, so that those of several coordinates add up,
and those of several objects compare: an object that is lost for long may be in many places, and is likely in none.
"""

import math

# The speed of a new object, as a standard deviation in frame widths a second.
FIRST_SPEED = 0.5
# Changes of speed that go on all the time, in the object's own sizes: the square root of their variance in a second.
DRIFT = 0.5
# How fast an object may move after it turned: in its top speed before, and in its own sizes a second.
TURNED_SPEED = 1.5
TURNED_SIZES = 1.0
# What is added to the cost of a turn: objects do so seldom.
TURN_COST = 8.0
# What is left of an object's top speed after each measurement that shows it slower.
TOP_SPEED_KEPT = 0.95


class CoordinateFilter:
    """`value` and `speed` with their variances; `noise` is the standard deviation of a measurement. `top_speed` is how
    fast the object was of late, in either direction: while it turns its speed is 0 for a moment."""

    __slots__ = ("_covariance", "_left", "_speed_variance", "_variance", "speed", "top_speed", "value")

    def __init__(self, value: float, noise: float) -> None:
        self.value = value
        self.speed = self.top_speed = 0.0
        # Whether it was expected outside the frame since it was last seen.
        self._left = False
        self._variance = noise * noise
        self._covariance = 0.0
        self._speed_variance = FIRST_SPEED**2

    def predict(self, seconds: float, size: float) -> None:
        """Moves the estimate on by `seconds`, for an object of `size`."""
        drift = (DRIFT * size) ** 2
        self.value += self.speed * seconds
        self._variance += seconds * (2 * self._covariance + seconds * (self._speed_variance + drift * seconds / 3))
        self._covariance += seconds * (self._speed_variance + drift * seconds / 2)
        self._speed_variance += drift * seconds

    def keep_within(self, low: float, high: float) -> None:
        """Expects an object that would leave the frame at its side; one that is seen again must have turned."""
        if not low <= self.value <= high:
            self.value = min(max(self.value, low), high)
            self._left = True

    def cost(self, error: float, noise: float, size: float, seconds: float) -> float:
        """Returns what a measurement costs that is `error` away, of an object that was seen `seconds` ago."""
        straight, turned, _ = self._costs(error, noise, size, seconds)
        return min(straight, turned)

    def update(self, measured: float, noise: float, size: float, seconds: float) -> None:
        """Takes a measurement of an object that was seen `seconds` ago; forgets the speed of one that has turned."""
        error = measured - self.value
        straight, turned, spread = self._costs(error, noise, size, seconds)
        if turned < straight:
            self._variance += spread
            self._covariance += spread / seconds
            self._speed_variance += spread / (seconds * seconds)
        total = self._variance + noise * noise
        gain, speed_gain = self._variance / total, self._covariance / total
        self.value += gain * error
        self.speed += speed_gain * error
        self._speed_variance -= speed_gain * self._covariance
        self._covariance -= gain * self._covariance
        self._variance -= gain * self._variance
        self.top_speed = max(abs(self.speed), TOP_SPEED_KEPT * self.top_speed)
        self._left = False

    def _costs(self, error: float, noise: float, size: float, seconds: float) -> tuple[float, float, float]:
        """The costs of an object that went straight on and of one that turned, and what a turn adds to the variance."""
        spread = ((TURNED_SPEED * self.top_speed + TURNED_SIZES * size) * seconds) ** 2
        variance = self._variance + noise * noise
        wider = variance + spread
        square = error * error
        straight = square / variance + math.log(variance)
        turned = square / wider + math.log(wider) + (0.0 if self._left else TURN_COST)
        return straight, turned, spread
