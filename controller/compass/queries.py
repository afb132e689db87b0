"""Every GraphQL operation that the agent sends. Values travel as variables, never inside the text.

Only what the agent uses is requested. Nested lists are read with the Director's own maximum and carry their cursors, so
that none of them is ever cut off unnoticed.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from controller.compass import types

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Operation(Generic[T]):
    """One GraphQL document with one operation; `data` is the type of its data."""

    name: str
    data: type[T]
    text: str


_PAGE = """
    pageInfo { endCursor hasNextPage }
    totalCount"""

_APIS = f"""data {{ id name targetURL }}{_PAGE}"""

_EVENTS = f"""data {{ id name }}{_PAGE}"""

_BUNDLES = f"""data {{
      id
      name
      description
      instanceAuthRequestInputSchema
      defaultInstanceAuth {{
        credential {{
          __typename
          ... on BasicCredentialData {{ username password }}
          ... on OAuthCredentialData {{ clientId clientSecret url }}
        }}
        accessStrategy
        additionalHeaders
        additionalQueryParams
        requestAuth {{ csrf {{ tokenEndpointURL }} }}
      }}
      apiDefinitions(first: $nested) {{ {_APIS} }}
      eventDefinitions(first: $nested) {{ {_EVENTS} }}
    }}{_PAGE}"""

CONFIGURATION = Operation(
    "configuration",
    types.ConfigurationData,
    """query Configuration {
  configuration {
    token { token }
    certificateSigningRequestInfo { subject keyAlgorithm }
    managementPlaneInfo { directorURL certificateSecuredConnectorURL }
  }
}""",
)

SIGN = Operation(
    "signCertificateSigningRequest",
    types.SignData,
    """mutation Sign($csr: String!) {
  signCertificateSigningRequest(csr: $csr) { certificateChain caCertificate clientCertificate }
}""",
)

REVOKE = Operation("revokeCertificate", types.RevokeData, "mutation Revoke { revokeCertificate }")

VIEWER = Operation("viewer", types.ViewerData, "query Viewer { viewer { id type } }")

PAGE = Operation(
    "applicationsForRuntime",
    types.PageData,
    f"""query Page($runtime: ID!, $first: Int!, $after: PageCursor, $nested: Int!) {{
  runtime(id: $runtime) {{ labels }}
  applicationsForRuntime(runtimeID: $runtime, first: $first, after: $after) {{
    data {{
      id
      name
      description
      auths {{ id }}
      bundles(first: $nested) {{ {_BUNDLES} }}
    }}{_PAGE}
  }}
}}""",
)

ASSIGNED_IDS = Operation(
    "applicationsForRuntime",
    types.IdentitiesData,
    f"""query AssignedIds($runtime: ID!, $first: Int!, $after: PageCursor) {{
  applicationsForRuntime(runtimeID: $runtime, first: $first, after: $after) {{
    data {{ id }}{_PAGE}
  }}
}}""",
)

#: For an application that is too large or too slow to be read: the least that identifies it.
OUTLINE = Operation(
    "applicationsForRuntime",
    types.OutlineData,
    f"""query Outline($runtime: ID!, $first: Int!, $after: PageCursor) {{
  runtime(id: $runtime) {{ labels }}
  applicationsForRuntime(runtimeID: $runtime, first: $first, after: $after) {{
    data {{ id name }}{_PAGE}
  }}
}}""",
)

MORE_BUNDLES = Operation(
    "bundles",
    types.PartsData,
    f"""query MoreBundles($application: ID!, $nested: Int!, $after: PageCursor) {{
  application(id: $application) {{
    id
    bundles(first: $nested, after: $after) {{ {_BUNDLES} }}
  }}
}}""",
)

MORE_APIS = Operation(
    "apiDefinitions",
    types.PartsData,
    f"""query MoreApis($application: ID!, $bundle: ID!, $nested: Int!, $after: PageCursor) {{
  application(id: $application) {{
    id
    bundle(id: $bundle) {{ id name apiDefinitions(first: $nested, after: $after) {{ {_APIS} }} }}
  }}
}}""",
)

MORE_EVENTS = Operation(
    "eventDefinitions",
    types.PartsData,
    f"""query MoreEvents($application: ID!, $bundle: ID!, $nested: Int!, $after: PageCursor) {{
  application(id: $application) {{
    id
    bundle(id: $bundle) {{ id name eventDefinitions(first: $nested, after: $after) {{ {_EVENTS} }} }}
  }}
}}""",
)

SET_RUNTIME_LABEL = Operation(
    "setRuntimeLabel",
    types.SetLabelData,
    """mutation SetRuntimeLabel($runtime: ID!, $key: String!, $value: Any!) {
  setRuntimeLabel(runtimeID: $runtime, key: $key, value: $value) { key value }
}""",
)
