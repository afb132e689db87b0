"""`python -m e2e.controlplane`: find, download or build etcd, kube-apiserver and kubectl, and print their folder."""

import sys

from e2e.controlplane import AssetsUnavailable, find_assets

if __name__ == "__main__":
    try:
        print(find_assets().directory)
    except AssetsUnavailable as error:
        sys.exit(f"error: {error}")
