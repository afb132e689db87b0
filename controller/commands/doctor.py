"""`compass-runtime-agent doctor`: checks that need the network, the settings and the permissions of the agent.

`gather` reads all facts once. `examine` is a pure function from the facts to findings, each with its cure. `kubectl
compass doctor` runs this command in a Pod, and adds checks from outside.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TextIO

from controller.commands import findings, permission_review, snapshot
from controller.commands.findings import (
    PAIR,
    PRIVATE_CA,
    Finding,
    Unknown,
    ok,
    permissions_finding,
    problem,
    unknown,
    warning,
)
from controller.commands.permission_review import Permission
from controller.commands.probe import Probe, Step, probe
from controller.commands.report import Certificate
from controller.commands.status import Output
from controller.compass import tls
from controller.compass.errors import CompassError, InvalidRequest
from controller.connection import status
from controller.connection.configuration import Configuration, PairingConfiguration
from controller.connection.credentials import CredentialsError, StoredCredentials
from controller.resources import APPLY_RELEASE
from controller.settings import Settings
from informers import ApiError, Client

_PROBE_SECONDS = 10.0
_CLOCKS_SECONDS = 30.0  # longer than a request, shorter than a difference that makes new certificates unusable for long
_OVERDUE = 2 / 3  # part of the renewal threshold: the alert CompassCertificateExpiresSoon is at a fifth of the validity


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The result of `gather`. `now` is in epoch seconds. `certificate`: a text is the reason why there is none.
    `probes`: a finding is the reason why there are none.
    """

    now: float
    settings: Settings
    missing_permissions: tuple[Permission, ...] | Unknown
    configuration: Configuration | Unknown
    certificate: Certificate | str | Unknown
    probes: tuple[Probe, ...] | Finding


def doctor(client: Client, settings: Settings, *, output: Output, now: Callable[[], float], out: TextIO) -> int:
    """Print the findings; returns the exit status."""
    found = examine(gather(client, settings, now=now))
    if output == "json":
        print(json.dumps(findings.to_json(found), indent=2), file=out)
    else:
        print("\n".join(findings.lines(found)), file=out)
    return findings.exit_status(found)


def gather(client: Client, settings: Settings, *, now: Callable[[], float]) -> Facts:
    """Read all facts once. A fact that cannot be read is Unknown."""
    try:
        missing: tuple[Permission, ...] | Unknown = permission_review.missing(
            client, permission_review.needed(settings)
        )
    except ApiError as error:
        missing = Unknown(str(error))
    configuration: Configuration | Unknown
    certificate: Certificate | str | Unknown
    credentials: StoredCredentials | CredentialsError | None = None
    try:
        taken = snapshot.take(client, settings)
        configuration = taken.configurations.resolve(taken.connection)
        credentials = taken.credentials.read().credentials
        certificate = snapshot.certificate_of(credentials)
    except ApiError as error:
        configuration = certificate = Unknown(str(error))
    return Facts(
        now=now(),
        settings=settings,
        missing_permissions=missing,
        configuration=configuration,
        certificate=certificate,
        probes=_probes(settings, configuration, credentials, now),
    )


def _probes(
    settings: Settings,
    configuration: Configuration | Unknown,
    credentials: StoredCredentials | CredentialsError | None,
    now: Callable[[], float],
) -> tuple[Probe, ...] | Finding:
    """Probe the servers that the agent calls now: those of the registration, or the Connector of the pairing."""
    pair = None
    if isinstance(credentials, StoredCredentials) and (known := credentials.registration) is not None:
        pair, urls = credentials.pair, {"Connector": known.connector_url, "Director": known.director_url}
    elif isinstance(configuration, PairingConfiguration):
        urls = {"Connector": configuration.connector_url}
    else:
        return unknown("Compass", "not asked: no address of Compass is known yet")
    try:
        context = tls.client_context(
            pair, ca_file=settings.compass_ca_file, skip_verify=settings.skip_compass_tls_verify
        )
    except InvalidRequest as error:
        cure = "it has to hold PEM certificates: correct the ConfigMap compass-ca"
        return problem("Compass", f"not asked: {error}", cure)
    except CompassError as error:
        return unknown("Compass", f"not asked: {error}")
    return tuple(probe(server, url, context, timeout=_PROBE_SECONDS, now=now) for server, url in urls.items())


def examine(facts: Facts) -> list[Finding]:
    """The findings for the facts; a pure function."""
    return [
        _permissions(facts),
        _configuration(facts),
        _certificate(facts),
        *_servers(facts),
        *_clocks(facts),
    ]


def _permissions(facts: Facts) -> Finding:
    check = "permissions"
    if isinstance(facts.missing_permissions, Unknown):
        return unknown(check, f"the permissions of the agent cannot be checked: {facts.missing_permissions.why}")
    return permissions_finding(facts.missing_permissions)


def _configuration(facts: Facts) -> Finding:
    check, found = "configuration", facts.configuration
    if isinstance(found, Unknown):
        return unknown(check, f"the configuration cannot be read: {found.why}", APPLY_RELEASE)
    if isinstance(found, PairingConfiguration):
        connected = facts.certificate
        if isinstance(connected, Certificate) and connected.runtime_id:
            runtime, tenant = connected.runtime_id, connected.tenant
            if (runtime, tenant) != (found.runtime_id, found.tenant):
                return warning(
                    check,
                    f"{found.origin} is for Runtime {found.runtime_id} of tenant {found.tenant}, and the connection is "
                    f"that of Runtime {runtime} of tenant {tenant}",
                    "correct RUNTIME_ID and TENANT there; to connect as the other Runtime: kubectl compass reconnect "
                    "--token-stdin, with its one-time token",
                )
        return ok(check, f"complete, from {found.origin}, for Runtime {found.runtime_id}")
    if isinstance(facts.certificate, Certificate) and facts.now < facts.certificate.not_after:
        if found.is_absent:
            return ok(check, "none, and none is needed while the certificate is valid")
        return warning(check, f"not usable for another pairing: {found.text}", "correct it before it is needed")
    if found.is_absent:
        cure = f"{PAIR}, and --connector-url, --runtime-id and --tenant"
    else:
        cure = "correct what the text names; kubectl compass pair writes the Secret"
    return problem(check, found.text, cure)


def _certificate(facts: Facts) -> Finding:
    check, found = "certificate", facts.certificate
    if isinstance(found, Unknown):
        return unknown(check, f"the Secret with the client certificate cannot be read: {found.why}")
    if isinstance(found, str):
        return problem(check, f"there is no usable client certificate: {found}", PAIR)
    until = status.timestamp(found.not_after)
    if facts.now >= found.not_after:
        return problem(check, f"the client certificate expired at {until}", PAIR)
    if facts.now < found.not_before:
        return problem(
            check,
            f"the client certificate is not valid before {status.timestamp(found.not_before)}, and the local time is "
            f"{status.timestamp(facts.now)}",
            "correct the clock of the node or of Compass",
        )
    left = (found.not_after - facts.now) / (found.not_after - found.not_before)
    if left < facts.settings.renewal_threshold * _OVERDUE:
        return warning(
            check,
            f"the client certificate is valid until {until} and should have been renewed already",
            "kubectl -n default get events --field-selector reason=RenewalFailed; kubectl compass renew",
        )
    return ok(check, f"the client certificate is valid until {until}, and its key belongs to it")


_NO_TLS_PROXY = "no proxy may end the TLS connection: NO_PROXY names the hosts that are called without a proxy"
_CURES = {
    Step.NAME: "check the host in CONNECTOR_URL, the DNS of the cluster, and that the NetworkPolicy lets DNS through",
    Step.CONNECTION: "check egress rules, firewalls and proxies between the cluster and Compass, and that Compass runs",
    Step.TLS: f"{_NO_TLS_PROXY}; if Compass refuses the client certificate: {PAIR}",
    Step.ANSWER: "check proxies between the cluster and Compass, and that Compass runs",
}


def _servers(facts: Facts) -> list[Finding]:
    if isinstance(facts.probes, Finding):
        return [facts.probes]
    found = []
    for probed in facts.probes:
        via = f" through the proxy {probed.via}" if probed.via else ""
        if probed.failed is None and (cure := _odd_status(probed.status)):
            found.append(warning(probed.server, f"{probed.url} answers{via} with HTTP {probed.status}", cure))
        elif probed.failed is None:
            text = f"{probed.url} answers{via} with HTTP {probed.status}; its TLS certificate is"
            if facts.settings.skip_compass_tls_verify:
                cure = f"remove APP_SKIP_COMPASS_TLS_VERIFY; for a private CA, {PRIVATE_CA}"
                found.append(warning(probed.server, f"{text} not verified", cure))
            else:
                found.append(ok(probed.server, f"{text} verified"))
        else:
            cure = _trust_cure(facts) if probed.failed is Step.TRUST else _CURES[probed.failed]
            found.append(problem(probed.server, f"{probed.url}{via}: {probed.text}", cure))
    return found


def _odd_status(status: int) -> str:
    """The cure for an HTTP status; "" for those with which Compass answers a query without a token, such as 400."""
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "a part of Compass is down: wait, or tell its operators"
    if status == HTTPStatus.NOT_FOUND or 300 <= status < 400:
        return "check the path in CONNECTOR_URL, and proxies between the cluster and Compass"
    return ""


def _trust_cure(facts: Facts) -> str:
    ca_file = facts.settings.compass_ca_file
    trusted = f"add the CA of this server to {ca_file}" if ca_file else f"for a private CA, {PRIVATE_CA}"
    return f"check the host in CONNECTOR_URL; {_NO_TLS_PROXY}; {trusted}"


def _clocks(facts: Facts) -> list[Finding]:
    """One finding for all servers, with the largest difference."""
    probes = facts.probes if isinstance(facts.probes, tuple) else ()
    differences = [p.received - p.date for p in probes if p.date is not None]
    if not differences:
        return []
    largest = max(differences, key=abs)
    if abs(largest) <= _CLOCKS_SECONDS:
        return [ok("clocks", "the clocks of this node and of Compass agree")]
    which = "ahead of" if largest > 0 else "behind"
    return [
        warning(
            "clocks",
            f"the clock of this node is {status.duration(largest)} {which} that of Compass",
            "correct it (NTP on the node); certificates are valid by these clocks",
        )
    ]
