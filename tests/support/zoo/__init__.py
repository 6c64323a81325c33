"""A few hundred objects of the kinds that programs put into queues, and whether two of them are the same."""

from tests.support.zoo.carriers import CARRIERS, is_same
from tests.support.zoo.kinds import Closing, close_over, local_class
from tests.support.zoo.things import by_value, data, refused

__all__ = ["CARRIERS", "Closing", "by_value", "close_over", "data", "is_same", "local_class", "refused"]
