"""Work queues for controllers with the semantics of client-go, for any threaded program.

- Fair: keys are returned in order of priority, and in order of their adds within a priority.
- De-duplicating: a key is with one worker at a time, and any number of adds before that count once.
- Reliable: a key that is added while a worker has it is returned again.
- Many producers and many workers; a shutdown returns at once or waits for the work.
- Keys can be added after a delay, or with the back-off of a rate limiter.
- Time is an argument: with workqueue.testing.VirtualClock a test controls each delay.
"""

from workqueue.clock import REAL_CLOCK, Clock, RealClock
from workqueue.delaying_queue import DelayingQueue
from workqueue.metrics import MetricsProvider, QueueGauges, QueueMetrics
from workqueue.queue import Queue, ShutDown
from workqueue.rate_limiters import (
    BucketRateLimiter,
    ItemExponentialFailureRateLimiter,
    ItemFastSlowRateLimiter,
    MaxOfRateLimiter,
    RateLimiter,
    WithMaxWaitRateLimiter,
    default_controller_rate_limiter,
    default_item_based_rate_limiter,
)
from workqueue.rate_limiting_queue import RateLimitingQueue

__all__ = [
    "REAL_CLOCK",
    "BucketRateLimiter",
    "Clock",
    "DelayingQueue",
    "ItemExponentialFailureRateLimiter",
    "ItemFastSlowRateLimiter",
    "MaxOfRateLimiter",
    "MetricsProvider",
    "Queue",
    "QueueGauges",
    "QueueMetrics",
    "RateLimiter",
    "RateLimitingQueue",
    "RealClock",
    "ShutDown",
    "WithMaxWaitRateLimiter",
    "default_controller_rate_limiter",
    "default_item_based_rate_limiter",
]
