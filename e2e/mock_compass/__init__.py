"""A Compass for tests, demo and playground: Connector and Director with real TLS, certificates and GraphQL.

- Answers as the real ones do behind their gateway, errors included: spent tokens, revoked certificates, offset paging,
  partial results, and what each endpoint says when something else is down.
- Is as rough: nested lists and errors come in another order with each answer (`compass.disorder`).
- Works in a thread of the caller (`with MockCompass() as compass`) or as a process (`python -m e2e.mock_compass`).
- Everything a test may want to change or break is on `compass.state`, `compass.settings`, `compass.faults`
  and `compass.outages`, and the same over the admin API.
- Tokens and client certificates live by a clock that is passed in.
"""

from e2e.mock_compass.compass import Listen
from e2e.mock_compass.connector import ConnectorSettings
from e2e.mock_compass.examples import generate, landscape
from e2e.mock_compass.faults import HTML_503, PAGES, Disorder, Fault, Faults
from e2e.mock_compass.gateway import OUTAGES, Outage, Outages
from e2e.mock_compass.records import RecordError
from e2e.mock_compass.server import MockCompass
from e2e.mock_compass.state import IssuedCertificate, LoggedRequest, RequestLog, Runtime, State, UnknownError

__all__ = [
    "HTML_503",
    "OUTAGES",
    "PAGES",
    "ConnectorSettings",
    "Disorder",
    "Fault",
    "Faults",
    "IssuedCertificate",
    "Listen",
    "LoggedRequest",
    "MockCompass",
    "Outage",
    "Outages",
    "RecordError",
    "RequestLog",
    "Runtime",
    "State",
    "UnknownError",
    "generate",
    "landscape",
]
