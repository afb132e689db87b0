"""A Compass for tests, demo and playground: Connector and Director with real TLS, certificates and GraphQL.

- Answers as the real ones do, errors included: spent tokens, revoked certificates, offset paging, partial results.
- Works in a thread of the caller (``with MockCompass() as compass``) or as a process (``python -m e2e.mock_compass``).
- Everything a test may want to change or break is on ``compass.state``, ``compass.settings`` and ``compass.faults``,
  and the same over the admin API.
- Tokens and client certificates live by a clock that is passed in.
"""

from e2e.mock_compass.connector import ConnectorSettings
from e2e.mock_compass.examples import generate, landscape
from e2e.mock_compass.faults import HTML_503, Fault, Faults
from e2e.mock_compass.records import RecordError
from e2e.mock_compass.request_log import LoggedRequest, RequestLog
from e2e.mock_compass.server import Listen, MockCompass
from e2e.mock_compass.state import IssuedCertificate, Runtime, State, UnknownError

__all__ = [
    "HTML_503",
    "ConnectorSettings",
    "Fault",
    "Faults",
    "IssuedCertificate",
    "Listen",
    "LoggedRequest",
    "MockCompass",
    "RecordError",
    "RequestLog",
    "Runtime",
    "State",
    "UnknownError",
    "generate",
    "landscape",
]
