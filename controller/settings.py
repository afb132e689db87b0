"""The agent's settings, read from environment variables.

Names, defaults and syntax are those of the Go agent, so that an operator only changes the image. Rules for all
variables:

- unset and empty both mean the default;
- `APP_HEALTH_PORT` may also be written `APP_HEALTHPORT`, `app_health_port` or `app_healthport`;
- durations have Go's syntax (`180s`, `1h30m`, `300ms`; a bare number other than `0` is an error);
- all errors are reported together, each with the variable's name and the expected value.
"""

# ruff: noqa: RUF009 -- _var() is dataclasses.field() with the variable beside it

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Literal, TypeVar, cast
from urllib.parse import urlsplit

_T = TypeVar("_T")

_PREFIX = "APP_"
_DURATION_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_PART = re.compile(r"(?<![\d.])(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://")
_MAX_SUBDOMAIN = 253


class SettingsError(Exception):
    """One or more environment variables are invalid. `problems` has a line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("invalid settings:\n" + "\n".join(f"  {problem}" for problem in problems))
        self.problems = problems


@dataclass(frozen=True, order=True)
class ObjectName:
    """Namespace and name of an object in the cluster."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def parse_duration(text: str) -> float:
    """Seconds of a duration in the syntax of Go's `time.ParseDuration`; raises ValueError."""
    sign, rest = (-1.0, text[1:]) if text[:1] == "-" else (1.0, text.removeprefix("+"))
    if rest == "0":
        return 0.0
    total, end = 0.0, 0
    for part in _DURATION_PART.finditer(rest):
        if part.start() != end:
            break
        total += float(part[1]) * _DURATION_UNITS[part[2]]
        end = part.end()
    if not rest or end != len(rest):
        raise ValueError("a duration such as 180s, 1h30m or 300ms")
    return sign * total


def format_duration(seconds: float) -> str:
    """The duration for people in the syntax of parse_duration: 3m, 1h30m, 300ms."""
    if not seconds:
        return "0s"
    for unit, scale in (("ns", 1e9), ("us", 1e6), ("ms", 1e3)):
        if seconds * scale < 1000:
            return f"{seconds * scale:g}{unit}"
    minutes, left = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(f"{hours:g}h", hours), (f"{minutes:g}m", minutes), (f"{left:g}s", left)]
    return "".join(text for text, value in parts if value)


def _positive_duration(text: str) -> float:
    seconds = parse_duration(text)
    if seconds <= 0:
        raise ValueError("a duration above zero such as 180s, 1h30m or 300ms")
    return seconds


def _duration(text: str) -> float:
    seconds = parse_duration(text)
    if seconds < 0:
        raise ValueError("a duration of zero or more such as 15s")
    return seconds


_DURATIONS = (_duration, _positive_duration)


def _boolean(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("true or false")


def _fraction(text: str) -> float:
    expected = "a number above 0 and below 1 such as 0.3"
    try:
        value = float(text)
    except ValueError as error:
        raise ValueError(expected) from error
    if not 0 < value < 1:
        raise ValueError(expected)
    return value


def _whole_number(low: int, high: int, expected: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise ValueError(expected)
        return int(text)

    return parse


_number = _whole_number(1, 1_000_000, "a whole number from 1 to 1000000")
_percent = _whole_number(0, 100, "a whole number from 0 to 100")
_port = _whole_number(0, 65535, "a port number from 0 to 65535 (0 turns it off)")


def _object_name(text: str) -> ObjectName:
    parts = [part for part in text.split("/") if part]
    if text.count("/") > 1 or not parts:
        raise ValueError("namespace/name")
    if len(parts) == 1:
        parts.insert(0, "default")
    parse_namespace(parts[0])
    if len(parts[1]) > _MAX_SUBDOMAIN or not _DNS_SUBDOMAIN.fullmatch(parts[1]):
        raise ValueError("namespace/name, the name in lower-case letters, digits, '-' and '.'")
    return ObjectName(*parts)


def parse_namespace(text: str) -> str:
    """The name of a namespace; raises ValueError."""
    if not _DNS_LABEL.fullmatch(text):
        raise ValueError("a namespace: up to 63 lower-case letters, digits and '-'")
    return text


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname
        _ = parts.port
    except ValueError:
        usable = None
    if not usable:
        raise ValueError("a URL that starts with http:// or https://")
    return text


def _readable_file(text: str) -> Path:
    path = Path(text)
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise ValueError(f"a file that can be read ({error.strerror})") from error


def _one_of(*words: _T) -> Callable[[str], _T]:
    def parse(text: str) -> _T:
        for word in words:
            if text.lower() == word:
                return word
        raise ValueError(f"one of {', '.join(map(str, words))}")

    return parse


def _var(name: str, default: str, parse: Callable[[str], _T], meaning: str) -> _T:
    """A field read from APP_<name>. Its default passes through the same parser as values of operators.

    `parse` raises ValueError. Its text is the expected value ("a duration such as 180s"), not the problem.
    """
    value: _T = field(
        default_factory=lambda: parse(default),
        metadata={"name": _PREFIX + name, "default": default, "parse": parse, "meaning": meaning},
    )
    return value


def _optional(parse: Callable[[str], _T]) -> Callable[[str], _T | None]:
    return lambda text: parse(text) if text else None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that an operator can set. Durations are seconds."""

    configuration: ObjectName = _var(
        "AGENT_CONFIGURATION_SECRET",
        "kyma-system/compass-agent-configuration",
        _object_name,
        "Secret with CONNECTOR_URL, RUNTIME_ID, TENANT and TOKEN. Without it, the ConfigMap of this name.",
    )
    sync_period: float = _var(
        "CONTROLLER_SYNC_PERIOD",
        "20s",
        _positive_duration,
        "Period of the checks at the Connector and the fetches from the Director.",
    )
    minimal_sync_time: float = _var(
        "MINIMAL_COMPASS_SYNC_TIME",
        "10s",
        _duration,
        "Minimum time between two periodic fetches from the Director, two requested ones, and two requested renewals.",
    )
    max_applications: int = _var(
        "MAX_APPLICATIONS",
        "20000",
        _number,
        "Maximum number of Applications. The limit of their memory is 16 KiB times this number.",
    )
    renewal_threshold: float = _var(
        "CERT_VALIDITY_RENEWAL_THRESHOLD",
        "0.3",
        _fraction,
        "The certificate is renewed when less than this fraction of its validity is left, or less than twice "
        "`APP_MINIMAL_COMPASS_SYNC_TIME`.",
    )
    cluster_certificates_secret: ObjectName = _var(
        "CLUSTER_CERTIFICATES_SECRET",
        "kyma-system/cluster-client-certificates",
        _object_name,
        "Secret that holds the client key and certificate.",
    )
    ca_certificates_secret: ObjectName = _var(
        "CA_CERTIFICATES_SECRET",
        "istio-system/ca-certificates",
        _object_name,
        "Secret with the CA certificate of Compass, for the Istio gateway.",
    )
    compass_ca_file: Path | None = _var(
        "COMPASS_CA_FILE",
        "",
        _optional(_readable_file),
        "PEM file with CA certificates. Needed when a private CA has signed the servers of Compass.",
    )
    skip_compass_tls_verify: bool = _var(
        "SKIP_COMPASS_TLS_VERIFY",
        "false",
        _boolean,
        "Do not verify the server certificates of Compass. For tests only.",
    )
    skip_apps_tls_verify: bool = _var(
        "SKIP_APPS_TLS_VERIFY", "false", _boolean, "Value of spec.skipVerify in new Applications."
    )
    central_gateway_url: str = _var(
        "CENTRAL_GATEWAY_SERVICE_URL",
        "http://central-application-gateway.kyma-system.svc.cluster.local:8082",
        _url,
        "Prefix of centralGatewayUrl in Applications.",
    )
    integration_namespace: str = _var(
        "INTEGRATION_NAMESPACE", "kyma-system", parse_namespace, "Namespace of the Secrets of Applications."
    )
    runtime_events_url: str = _var(
        "RUNTIME_EVENTS_URL", "https://gateway.kyma.local", _url, "Reported as the label runtime_eventServiceUrl."
    )
    runtime_console_url: str = _var(
        "RUNTIME_CONSOLE_URL", "https://console.kyma.local", _url, "Reported as the label runtime_consoleUrl."
    )
    max_deletion_percent: int | None = _var(
        "MAX_DELETION_PERCENT",
        "",
        _optional(_percent),
        "Deletions of more than this percentage of the managed Applications wait for a confirmation.",
    )
    query_logging: bool = _var(
        "QUERY_LOGGING",
        "false",
        _boolean,
        "Log operation, ids, status, size, duration and errors of failed calls to Compass, never a body or a header.",
    )
    metrics_logging_interval: float = _var(
        "METRICS_LOGGING_TIME_INTERVAL", "30m", _positive_duration, "Period of the log line with cluster metrics."
    )
    health_port: int = _var("HEALTH_PORT", "8090", _port, "Port of /healthz and /readyz. 0: no such server.")
    metrics_port: int = _var("METRICS_PORT", "8080", _port, "Port of /metrics. 0: no such server.")
    gateway_port: int = _var("GATEWAY_PORT", "8080", _port, "Accepted for compatibility; not used.")
    leader_election: bool = _var(
        "LEADER_ELECTION", "true", _boolean, "Elect one active replica with a Lease. Required with several replicas."
    )
    leader_election_namespace: str = _var(
        "LEADER_ELECTION_NAMESPACE", "kyma-system", parse_namespace, "Namespace of the Lease."
    )
    pod_uid: str = _var(
        "POD_UID",
        "",
        str,
        "uid of the Pod, from the downward API. A restarted container then takes over its own Lease soon.",
    )
    log_level: str = _var(
        "LOG_LEVEL", "info", _one_of("debug", "info", "warning", "error"), "One of debug, info, warning, error."
    )
    log_format: Literal["text", "json"] = _var("LOG_FORMAT", "text", _one_of("text", "json"), "text or json.")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read all variables. Raises SettingsError with all invalid ones."""
        values: dict[str, object] = {}
        problems = []
        for attribute in fields(cls):
            name, parse = attribute.metadata["name"], attribute.metadata["parse"]
            used, text = next(_given(environment, name), (name, ""))
            if not text:
                continue
            try:
                values[attribute.name] = parse(text)
            except ValueError as error:
                problems.append(f"{used}={text!r}: expected {error}{_origin(used, text)}")
        if problems:
            raise SettingsError(problems)
        return cls(**values)  # type: ignore[arg-type]

    def describe(self) -> dict[str, str]:
        """All variables that have a value, and the values in the syntax of operators, for the log line at the start.
        No setting is a secret.
        """
        values = {field.metadata["name"]: _written(field, getattr(self, field.name)) for field in fields(self)}
        return {name: text for name, text in values.items() if text}


@dataclass(frozen=True)
class Variable:
    """A row of the reference page."""

    name: str
    default: str
    meaning: str


def variables() -> list[Variable]:
    """All variables that the agent reads, in the order of Settings."""
    return [Variable(*(f.metadata[key] for key in ("name", "default", "meaning"))) for f in fields(Settings)]


def _origin(name: str, text: str) -> str:
    """The cause of a value that no operator has written: Kubernetes describes Services in variables of the Pods."""
    if not _SERVICE_LINK.match(text):
        return ""
    service = name.removesuffix("_PORT").replace("_", "-").lower()
    return (
        f"; Kubernetes sets this variable for the Service {service} of the namespace: set enableServiceLinks to false "
        f"in the Pod template, or set {name}"
    )


def _written(field: Field[object], value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if field.metadata["parse"] in _DURATIONS:
        return format_duration(cast("float", value))
    return str(value)


def _given(environment: Mapping[str, str], name: str) -> Iterator[tuple[str, str]]:
    joined = _PREFIX + name.removeprefix(_PREFIX).replace("_", "")
    for spelling in (name, joined, name.lower(), joined.lower()):
        if environment.get(spelling):
            yield spelling, environment[spelling]
