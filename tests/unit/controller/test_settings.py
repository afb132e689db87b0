"""The settings are those of the Runtime Agent that clusters run today."""

import pytest

from controller.settings import ObjectName, Settings, SettingsError, format_duration, parse_duration, variables


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("180s", 180),
        ("1h30m", 5400),
        ("300ms", 0.3),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("1m0.5s", 60.5),
        ("0", 0),
        ("+2s", 2),
        ("-2s", -2),
        ("1us", 1e-6),
        ("1µs", 1e-6),
        ("7ns", 7e-9),
    ],
)
def test_durations_have_the_syntax_of_go(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "s", "1d", "1h 30m", "1,5s", "one", "1s1", "--1s", "."])
def test_a_duration_that_go_refuses_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


def test_without_any_variable_the_defaults_hold() -> None:
    settings = Settings.from_environment({})
    assert settings.configuration == ObjectName("kyma-system", "compass-agent-configuration")
    assert settings.ca_certificates_secret == ObjectName("istio-system", "ca-certificates")
    assert (settings.sync_period, settings.minimal_sync_time, settings.renewal_threshold) == (20.0, 10.0, 0.3)
    assert settings.health_port == 8090
    assert settings.compass_ca_file is None
    assert settings.max_deletion_percent is None
    assert settings == Settings()


def test_an_empty_variable_means_its_default() -> None:
    empty = {variable.name: "" for variable in variables()}
    assert Settings.from_environment(empty) == Settings()


@pytest.mark.parametrize("name", ["APP_HEALTH_PORT", "APP_HEALTHPORT", "app_health_port", "app_healthport"])
def test_every_spelling_of_a_name_is_accepted(name: str) -> None:
    assert Settings.from_environment({name: "9"}).health_port == 9


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ns/name", ObjectName("ns", "name")),
        ("name", ObjectName("default", "name")),
        ("/name", ObjectName("default", "name")),
        ("name/", ObjectName("default", "name")),
    ],
)
def test_an_object_name_without_a_namespace_is_in_default(text: str, expected: ObjectName) -> None:
    assert Settings.from_environment({"APP_CLUSTER_CERTIFICATES_SECRET": text}).cluster_certificates_secret == expected


@pytest.mark.parametrize("text", ["1", "t", "T", "TRUE", "true", "True"])
def test_booleans_have_the_syntax_of_go(text: str) -> None:
    assert Settings.from_environment({"APP_SKIP_COMPASS_TLS_VERIFY": text}).skip_compass_tls_verify


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("APP_CONTROLLER_SYNC_PERIOD", "180"),
        ("APP_CONTROLLER_SYNC_PERIOD", "0s"),
        ("APP_MINIMAL_COMPASS_SYNC_TIME", "-1s"),
        ("APP_CERT_VALIDITY_RENEWAL_THRESHOLD", "1.5"),
        ("APP_CERT_VALIDITY_RENEWAL_THRESHOLD", "nan"),
        ("APP_SKIP_APPS_TLS_VERIFY", "yes"),
        ("APP_HEALTH_PORT", "70000"),
        ("APP_HEALTH_PORT", "-1"),
        ("APP_HEALTH_PORT", "²"),
        ("APP_CLUSTER_CERTIFICATES_SECRET", "a/b/c"),
        ("APP_CLUSTER_CERTIFICATES_SECRET", "/"),
        ("APP_CLUSTER_CERTIFICATES_SECRET", "Kyma/name"),
        ("APP_INTEGRATION_NAMESPACE", "a.b"),
        ("APP_RUNTIME_EVENTS_URL", "gateway.example.com"),
        ("APP_RUNTIME_EVENTS_URL", "https://[::1"),
        ("APP_COMPASS_CA_FILE", "/does/not/exist.pem"),
        ("APP_MAX_DELETION_PERCENT", "101"),
        ("APP_MAX_APPLICATIONS", "0"),
        ("APP_MAX_APPLICATIONS", "1e4"),
        ("APP_LOG_LEVEL", "loud"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_what_was_expected(name: str, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({name: text})
    (problem,) = caught.value.problems
    assert problem.startswith(f"{name}={text!r}: expected ")


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({"APP_HEALTH_PORT": "x", "APP_LOG_FORMAT": "xml", "APP_QUERY_LOGGING": "?"})
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("text", ["180s", "5400s", "300ms", "0s", "61s", "1500ms", "36h", "3m", "24h0m1s", "7ns"])
def test_a_duration_is_written_so_that_it_reads_as_the_same(text: str) -> None:
    seconds = parse_duration(text)
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds)


def test_the_log_line_at_the_start_has_values_as_people_write_them() -> None:
    """Durations in Go's syntax, booleans in lower case, and nothing for what is not set."""
    told = Settings.from_environment({"APP_CONTROLLER_SYNC_PERIOD": "180s", "APP_LOG_FORMAT": "json"}).describe()
    assert told["APP_CONTROLLER_SYNC_PERIOD"] == "3m"
    assert told["APP_METRICS_LOGGING_TIME_INTERVAL"] == "30m"
    assert told["APP_LEADER_ELECTION"] == "true"
    assert told["APP_CLUSTER_CERTIFICATES_SECRET"] == "kyma-system/cluster-client-certificates"
    assert "APP_COMPASS_CA_FILE" not in told
    assert "None" not in told.values()
    assert Settings.from_environment(told) == Settings.from_environment(
        {"APP_CONTROLLER_SYNC_PERIOD": "3m", "APP_LOG_FORMAT": "json"}
    )


@pytest.mark.parametrize("service", ["app-metrics", "app-health", "app-gateway"])
def test_a_variable_that_kubernetes_sets_for_a_service_names_its_cause(service: str) -> None:
    """Pods get NAME_PORT for each Service of their namespace, if enableServiceLinks is not false."""
    name = service.upper().replace("-", "_") + "_PORT"
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment({name: "tcp://10.96.0.17:8080"})
    (problem,) = raised.value.problems
    assert f"for the Service {service} " in problem
    assert "set enableServiceLinks to false" in problem
