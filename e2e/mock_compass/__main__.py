"""Runs the mock Compass in the foreground. The last line it prints before it serves is JSON with all URLs."""

import argparse
import json
import signal
import sys

from e2e.mock_compass.compass import Listen
from e2e.mock_compass.examples import landscape
from e2e.mock_compass.server import MockCompass


def main() -> int:
    options = _parser().parse_args()
    compass = MockCompass(
        runtime_id=options.runtime_id,
        host_name=options.host_name,
        listen=Listen(options.listen, options.port, options.mtls_port, options.admin_port),
    )
    if options.examples:
        for application in landscape():
            compass.put_application(application)
    stop = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)  # before the threads start, so that only sigwait() gets them
    try:
        compass.start()
    except OSError as error:
        print(f"mock Compass cannot listen: {error}", file=sys.stderr)
        return 1
    urls = ("connector_url", "secured_connector_url", "director_url", "admin_url", "runtime_id", "tenant")
    print(json.dumps({name: getattr(compass, name) for name in urls}), flush=True)
    signal.sigwait(stop)
    compass.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m e2e.mock_compass", description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1", help="address of all listeners (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="HTTPS port for pairing; 0: a free one")
    parser.add_argument("--mtls-port", type=int, default=0, help="HTTPS port that asks for client certificates")
    parser.add_argument("--admin-port", type=int, default=0, help="HTTP port of the admin API")
    parser.add_argument("--host-name", default="localhost", help="host in the advertised URLs (default: %(default)s)")
    parser.add_argument("--runtime-id", help="id of the Runtime that is registered at the start (default: random)")
    parser.add_argument("--examples", action="store_true", help="start with the example landscape")
    return parser


if __name__ == "__main__":
    sys.exit(main())
