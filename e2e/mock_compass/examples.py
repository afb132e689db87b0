"""A small landscape for demo and tests: one Application for each way of being called, and bulk material."""

import uuid
from collections.abc import Iterator
from typing import Any

_NAMESPACE = uuid.UUID("6d3f6a52-6f0c-4c55-9d6f-3b9d2f0f5a11")  # all ids here derive from it, so runs are alike


def _id(text: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, text))


def _api(owner: str, name: str, url: str, **more: Any) -> dict[str, Any]:
    return {"id": _id(f"{owner}/api/{name}"), "name": name, "targetURL": url, **more}


def _event(owner: str, name: str, **more: Any) -> dict[str, Any]:
    return {"id": _id(f"{owner}/event/{name}"), "name": name, **more}


def _bundle(owner: str, name: str, **more: Any) -> dict[str, Any]:
    return {"id": _id(f"{owner}/bundle/{name}"), "name": name, **more}


def _application(name: str, **more: Any) -> dict[str, Any]:
    return {"id": _id(name), "name": name, **more}


def landscape() -> list[dict[str, Any]]:
    """Applications in the shape of records.py: basic, oauth, none, params, csrf, certificate and a mixed one."""
    return [_basic(), _oauth(), _open(), _parameters(), _csrf(), _certificate(), _mixed()]


def _basic() -> dict[str, Any]:
    url = "https://erp.harbour-logistics.example"
    return _application(
        "Harbour Logistics ERP",
        description="Stock and shipping of the Rotterdam site",
        providerName="Harbour Logistics",
        labels={"region": "eu-west", "stage": "production"},
        auths=[{"id": _id("Harbour Logistics ERP/auth")}],
        bundles=[
            _bundle(
                "erp",
                "Warehouse",
                description="Stock levels and movements",
                defaultInstanceAuth={"credential": {"username": "kyma-reader", "password": "harbour-basic-4711"}},
                apiDefinitions=[
                    _api("erp", "Stock API v1", f"{url}/stock"),
                    _api("erp", "Movements API", f"{url}/movements", group="warehouse"),
                ],
                eventDefinitions=[_event("erp", "Stock Events", description="A stock level has changed")],
            )
        ],
    )


def _oauth() -> dict[str, Any]:
    url = "https://api.bergblick-shop.example"
    return _application(
        "Bergblick Webshop",
        description="Online shop for hiking gear",
        providerName="Bergblick",
        systemNumber=None,
        auths=[{"id": _id("Bergblick Webshop/auth/1")}, {"id": _id("Bergblick Webshop/auth/2")}],
        bundles=[
            _bundle(
                "shop",
                "Order Handling",
                description="Orders and returns",
                instanceAuthRequestInputSchema='{"type":"object","properties":{"reason":{"type":"string"}}}',
                defaultInstanceAuth={
                    "credential": {
                        "clientId": "bergblick-runtime",
                        "clientSecret": "bergblick-oauth-0815",
                        "url": f"{url}/oauth/token",
                    }
                },
                apiDefinitions=[_api("shop", "Orders", f"{url}/orders"), _api("shop", "Returns", f"{url}/returns")],
                eventDefinitions=[_event("shop", "Order Events"), _event("shop", "Return Events")],
            )
        ],
    )


def _open() -> dict[str, Any]:
    return _application(
        "City Weather",
        providerName="City of Aarhus",
        bundles=[
            _bundle(
                "weather",
                "Forecast",
                apiDefinitions=[_api("weather", "Daily Forecast", "https://weather.aarhus.example/daily")],
            )
        ],
    )


def _parameters() -> dict[str, Any]:
    return _application(
        "Parcel Tracking",
        description="Where a parcel is <now> & next",
        bundles=[
            _bundle(
                "parcel",
                "Tracking",
                defaultInstanceAuth={
                    "credential": None,
                    "additionalHeaders": {"X-Api-Key": ["parcel-key-1"], "Accept-Language": ["en", "da"]},
                    "additionalQueryParams": {"client": ["kyma"], "filter": ["a<b&c>d"]},
                },
                apiDefinitions=[_api("parcel", "Track & Trace", "https://parcels.example/track")],
            )
        ],
    )


def _csrf() -> dict[str, Any]:
    url = "https://crm.nordlicht.example"
    return _application(
        "Nordlicht CRM",
        description="Customers and contacts",
        providerName="Nordlicht",
        bundles=[
            _bundle(
                "crm",
                "Customers",
                defaultInstanceAuth={
                    "credential": {"username": "crm-agent", "password": "nordlicht-basic-2024"},
                    "additionalHeaders": {"X-Tenant": ["nordlicht"]},
                    "requestAuth": {"csrf": {"tokenEndpointURL": f"{url}/csrf-token"}},
                },
                apiDefinitions=[_api("crm", "Customer API", f"{url}/customers")],
                eventDefinitions=[_event("crm", "Customer Events")],
            )
        ],
    )


def _certificate() -> dict[str, Any]:
    url = "https://payroll.lindenhof.example"
    return _application(
        "Lindenhof Payroll",
        description="Payroll, called with a client certificate",
        bundles=[
            _bundle(
                "payroll",
                "Payslips",
                defaultInstanceAuth={
                    "credential": {
                        "clientId": "lindenhof-client",
                        "certificate": "-----BEGIN CERTIFICATE-----\nexample\n-----END CERTIFICATE-----\n",
                        "url": f"{url}/oauth2/certificate/token",
                    }
                },
                apiDefinitions=[_api("payroll", "Payslip API", f"{url}/payslips")],
            )
        ],
    )


def _mixed() -> dict[str, Any]:
    """Two bundles with different credentials, one bundle with nothing in it."""
    return _application(
        "Solveig Booking",
        description="Ferry bookings",
        bundles=[
            _bundle(
                "booking",
                "Bookings",
                defaultInstanceAuth={
                    "credential": {
                        "clientId": "solveig",
                        "clientSecret": "solveig-oauth-3000",
                        "url": "https://booking.solveig.example/token",
                    },
                    "additionalQueryParams": {"market": ["no"]},
                },
                apiDefinitions=[_api("booking", "Booking API", "https://booking.solveig.example/v2")],
            ),
            _bundle(
                "booking",
                "Timetable",
                apiDefinitions=[_api("booking", "Timetable API", "https://timetable.solveig.example")],
                eventDefinitions=[_event("booking", "Departure Events")],
            ),
            _bundle("booking", "Announced"),
        ],
    )


def generate(count: int, *, prefix: str = "generated") -> Iterator[dict[str, Any]]:
    """`count` Applications of one bundle with an API and an event each; 68 of 100 have credentials.

    The same prefix and position always give the same Application, so a larger count only adds.
    """
    for number in range(count):
        name = f"{prefix} {number:05d}"
        url = f"https://{prefix}-{number:05d}.example"
        yield _application(
            name,
            description=f"Application {number}",
            auths=[{"id": _id(f"{name}/auth")}],
            bundles=[
                _bundle(
                    name,
                    "Main",
                    defaultInstanceAuth=_generated_auth(number, url),
                    apiDefinitions=[_api(name, "Main API", f"{url}/api")],
                    eventDefinitions=[_event(name, "Main Events")],
                )
            ],
        )


def _generated_auth(number: int, url: str) -> dict[str, Any] | None:
    if number * 17 % 25 >= 17:  # spreads 17 of every 25 evenly
        return None
    if number % 2:
        return {"credential": {"username": f"user-{number}", "password": f"generated-basic-{number}"}}
    return {
        "credential": {
            "clientId": f"client-{number}",
            "clientSecret": f"generated-oauth-{number}",
            "url": f"{url}/token",
        }
    }
