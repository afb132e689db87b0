"""A Compass for tests, demo and playground: Connector and Director with real TLS, certificates and GraphQL.

- Answers as the real ones do behind their gateway, errors included: spent tokens, revoked certificates, offset paging,
  partial results, and what each endpoint says when something else is down.
- Is as rough: nested lists and errors come in another order with each answer (`compass.disorder`).
- Works in a thread of the caller (`with MockCompass() as compass`) or as a process (`python -m e2e.mock_compass`).
- Everything a test may want to change or break is on `compass.state`, `compass.settings`, `compass.faults`
  and `compass.outages`, and the same over the admin API.
"""

from e2e.mock_compass.faults import Fault
from e2e.mock_compass.server import MockCompass

__all__ = ["Fault", "MockCompass"]
