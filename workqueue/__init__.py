"""Work queues for controllers, as right as client-go's, for any threaded program.

- Fair: keys are handed out in order of priority, and of their add within a priority.
- Stingy: one key is handed to one worker at a time, and however often it was added before that, once.
- Nothing is lost: a key added while a worker has it is handed out again after that.
- Many producers and many workers; a shutdown either lets go at once or waits for the work to be done.
- Keys can be added after a delay, or with a rate limiter's back-off.
- Time is passed in: workqueue.testing.VirtualClock makes each delay a test's own.
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
