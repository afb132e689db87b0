"""Secrets and CompassConnection, edited, swapped and emptied by hand: the agent recovers or says exactly what to do."""

import base64
import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from controller.compass.certificates import key_to_pem
from controller.resources import SECRET
from e2e.world import CA_SECRET, CLUSTER_SECRET, OWN_CRDS, World, encoded
from tests.integration.connection.conftest import StartAgent
from tests.integration.connection.observing import (
    certificate,
    edit_status,
    issued,
    synchronized,
    wait_for_error,
    wait_for_fetches,
)
from tests.support.agent_thread import small_key

EMPTY = {"key": None, "crt": None, "crtChain": None, "connection": None}


def edit_secret(world: World, data: dict[str, str | None]) -> None:
    world.client.patch(SECRET, CLUSTER_SECRET.name, {"data": data}, namespace=CLUSTER_SECRET.namespace)


def self_signed() -> dict[str, str | None]:
    """Key and certificate that belong together, and that no Connector has signed."""
    key = small_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nobody")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 2, now, now + datetime.timedelta(days=1))
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    return {"key": encoded(key_to_pem(key).decode()), "crt": encoded(pem), "crtChain": encoded(pem)}


def test_damaged_credentials_are_told_and_a_new_token_mends_them(world: World, agent: StartAgent) -> None:
    """Emptied, swapped with another key, garbage: ConnectionFailed with the key of the Secret, Applications stay."""
    synchronized(world, agent)
    first = encoded(certificate(world))
    for told, data in (
        ("the Secret kyma-system/cluster-client-certificates holds no credentials", EMPTY),
        ("does not belong to the certificate", {"key": encoded(key_to_pem(small_key()).decode())}),
        ("Secret kyma-system/cluster-client-certificates: key key is missing or empty", {"key": ""}),
        ("key crtChain is not base64 of UTF-8 text", {"crtChain": base64.b64encode(b"\xff").decode()}),
        ("crtChain does not begin with the certificate in crt", {"crt": first}),
    ):
        edit_secret(world, data)  # type: ignore[arg-type]
        wait_for_error(world, told, "put a new one-time token into ConfigMap")
        assert world.state() == "ConnectionFailed"
        world.configure()
        world.wait_for_state("Synchronized")
    assert len(world.applications()) == 3


def test_credentials_that_compass_never_signed_are_kept_and_suspected(world: World, agent: StartAgent) -> None:
    """Swapped with a whole pair of somebody else: refused, so a new token is asked for, and nothing is deleted."""
    synchronized(world, agent)
    edit_secret(world, self_signed())
    wait_for_error(world, "Error while trying to maintain connection: ", "new one-time token")
    assert world.state() == "ConnectionMaintenanceFailed"
    assert len(world.applications()) == 3
    world.configure()
    world.wait_for_state("Synchronized")
    assert issued(world) == 2


def test_what_can_be_known_again_is_put_back_without_a_token(world: World, agent: StartAgent) -> None:
    """Who we are and where, taken from configuration and object; the CA, from the chain. Other keys survive."""
    synchronized(world, agent)
    known = (world.secret(CLUSTER_SECRET) or {})["connection"].split('"paired_with"')[0]
    ca = world.secret(CA_SECRET)
    stored = (world.secret(CLUSTER_SECRET) or {})["connection"]
    bad_url = stored.replace(world.compass.secured_connector_url, "nonsense")
    assert bad_url != stored
    for nonsense in ("nonsense", '{"runtime_id": 1}', "", bad_url):
        edit_secret(world, {"connection": encoded(nonsense), "pairing": encoded("{}"), "mine": encoded("x")})
        world.wait_for(
            "who we are", lambda: (world.secret(CLUSTER_SECRET) or {})["connection"].startswith(known.rstrip(", "))
        )
    world.client.patch(SECRET, CA_SECRET.name, {"data": {"cacert": "eA=="}}, namespace=CA_SECRET.namespace)
    world.wait_for("the CA", lambda: world.secret(CA_SECRET) == ca)
    wait_for_fetches(world, 1)
    assert world.state() == "Synchronized"
    assert (world.secret(CLUSTER_SECRET) or {})["mine"] == "x"
    assert issued(world) == 1


def test_a_wiped_or_nonsensical_status_is_told_anew(world: World, agent: StartAgent, crds: Path) -> None:
    """Whatever stands there: the truth again within a period, and no token is spent, not even a fresh one."""
    synchronized(world, agent)
    world.configure()  # a token that would work
    dates: dict[str, Any] = (world.connection() or {})["status"]["connectionStatus"]["certificateStatus"]
    old = "1970-01-01T00:00:00Z"
    nonsense: list[Any] = [
        None,
        {"connectionState": "Fine"},
        {"connectionState": "", "connectionStatus": {"certificateStatus": {"notAfter": old, "notBefore": old}}},
        {"connectionState": "ConnectionMaintenanceFailed", "connectionStatus": {"error": "by hand"}},
        {"synchronizationStatus": {"lastAttempt": "2999-01-01T00:00:00Z", "error": "by hand"}},
        {"connectionStatus": {"certificateStatus": {"notAfter": None}, "established": None, "lastSuccess": None}},
    ]
    if crds == OWN_CRDS:
        condition = {"type": "Ready", "status": "False", "reason": "Hand", "lastTransitionTime": old}
        nonsense.append({"conditions": [condition], "applications": None, "runtime": {"id": "somebody-else"}})
    for status in nonsense:
        edit_status(world, status)

        def true_again() -> bool:
            told = (world.connection() or {}).get("status") or {}
            connection = told.get("connectionStatus") or {}
            known = connection.get("certificateStatus") or {}
            conditions = {c["type"]: c["status"] for c in told.get("conditions", ())}
            return (
                told.get("connectionState") == "Synchronized"
                and "by hand" not in str(told)
                and "2999" not in str(told)
                and (known.get("notBefore"), known.get("notAfter")) == (dates["notBefore"], dates["notAfter"])
                and conditions.get("Ready", "True") == "True"
                and told.get("runtime", {}).get("id") in (None, world.compass.runtime_id)
            )

        world.wait_for(f"the truth after {status}", true_again)
    assert issued(world) == 1


@pytest.mark.parametrize("urls", [("nonsense", "ftp://x"), ("", "")], ids=["nonsense", "emptied"])
def test_a_nonsensical_spec_is_put_right(world: World, agent: StartAgent, urls: tuple[str, str]) -> None:
    """The addresses are those of the credentials Secret, and what is asked of the agent is still done."""
    synchronized(world, agent)
    expected = {"connectorUrl": world.compass.secured_connector_url, "directorUrl": world.compass.director_url}
    world.patch_connection({"spec": {"managementInfo": {"connectorUrl": urls[0], "directorUrl": urls[1]}}})
    world.wait_for("the addresses", lambda: (world.connection() or {})["spec"]["managementInfo"] == expected)
    world.patch_connection({"spec": {"resyncNow": True, "refreshCredentialsNow": True}})
    world.wait_for("a renewal", lambda: issued(world) == 2)
    world.wait_for_state("Synchronized")
    world.wait_for(
        "the wishes to be taken away",
        lambda: (
            not (world.connection() or {})["spec"].get("resyncNow")
            and "refreshCredentialsNow" not in (world.connection() or {})["spec"]
        ),
    )


@pytest.mark.parametrize("with_status", [True, False])
def test_an_agent_that_starts_on_nonsense_recovers(world: World, agent: StartAgent, with_status: bool) -> None:
    """A restart after edits is no crash loop: status, addresses and CA are restored at once."""
    synchronized(world, agent).stop()
    world.configure()
    edit_status(world, {"connectionState": "?", "connectionStatus": {"certificateStatus": {}}} if with_status else None)
    world.patch_connection({"metadata": {"annotations": {"compass.kyma-project.io/revoked-with": "nonsense"}}})
    world.client.patch(SECRET, CA_SECRET.name, {"data": {"cacert": None}}, namespace=CA_SECRET.namespace)
    agent()
    world.wait_for_state("Synchronized")
    world.wait_for("the CA", lambda: (world.secret(CA_SECRET) or {}).get("cacert"))
    assert issued(world) == 1
