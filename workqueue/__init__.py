"""The work queue of controllers with the semantics of client-go, for any threaded program.

- Fair: keys are returned in order of priority, and in order of their adds within a priority.
- De-duplicating: a key is with one worker at a time, and any number of adds before that count once.
- Reliable: a key that is added while a worker has it is returned again.
- Keys can be added after a delay, or with exponential back-off.
- Time is an argument: a test passes a clock of its own and controls each delay.
"""

from workqueue.clock import REAL_CLOCK, Clock, RealClock
from workqueue.queue import QueueGauges, QueueMetrics, RateLimitingQueue, ShutDown

__all__ = [
    "REAL_CLOCK",
    "Clock",
    "QueueGauges",
    "QueueMetrics",
    "RateLimitingQueue",
    "RealClock",
    "ShutDown",
]
