"""What a fetch gives, in short."""

from typing import Any, TypeVar

from controller.compass.types import (
    BASIC,
    LAST_PAGE,
    OAUTH,
    ApiDefinition,
    Auth,
    Bundle,
    Credential,
    EventDefinition,
    Page,
)

T = TypeVar("T")


def listed(*items: T) -> Page[T]:
    return Page(len(items), LAST_PAGE, items)


def basic(username: str = "u", password: str = "p", **more: Any) -> Auth:
    return Auth(Credential(BASIC, username=username, password=password), **more)


def oauth(client_id: str = "c", secret: str = "s", url: str = "https://t", **more: Any) -> Auth:
    return Auth(Credential(OAUTH, clientId=client_id, clientSecret=secret, url=url), **more)


def bundle(
    identifier: str,
    name: str = "Bundle",
    auth: Auth | None = None,
    *,
    apis: tuple[ApiDefinition, ...] = (),
    events: tuple[EventDefinition, ...] = (),
    **more: Any,
) -> Bundle:
    lists: dict[str, Any] = {"apiDefinitions": listed(*apis), "eventDefinitions": listed(*events)}
    return Bundle(identifier, name, defaultInstanceAuth=auth, **lists, **more)
