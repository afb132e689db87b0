"""The order of resourceVersions.

Since Kubernetes 1.35 the versions of one kind may be compared as integers (KEP-5504, apimachinery
util/resourceversion). Servers whose versions are not decimal numbers promise equality only.
"""


def is_older(version: str, than: str) -> bool:
    """Whether the first version is known to be older. False also where the order is unknown."""
    if not (_is_number(version) and _is_number(than)):
        return False
    return (len(version), version) < (len(than), than)


def _is_number(version: str) -> bool:
    """A positive decimal number without leading zeros, of any length."""
    return version.isascii() and version.isdecimal() and version[0] != "0"
