"""Informers for Kubernetes: a correct list+watch, indexed caches and a client of plain dicts. See README.md."""

import informers._deferred  # noqa: F401 - first, before the official client is imported
from informers.client import Client
from informers.errors import (
    AlreadyExists,
    ApiError,
    ConfigurationError,
    Conflict,
    ConnectionFailed,
    Expired,
    Forbidden,
    Invalid,
    KubernetesError,
    NoCredentials,
    NotFound,
    ServerError,
    TooManyRequests,
    TransformFailed,
    Unauthorized,
    WrongKind,
)
from informers.handlers import DeletedFinalStateUnknown, EventHandlers, Registration
from informers.indexer import Indexer
from informers.informer import SharedInformer, wait_for_sync
from informers.lister_watcher import ListerWatcher
from informers.metrics import InformerMetrics, RequestMetrics
from informers.mutation_cache import MutationCache
from informers.mutation_detector import CacheMutated
from informers.resource import Resource, make_key, object_key, split_key
from informers.transport import Stop, Stopped
from informers.watch import WatchEvent, WatchStream

__all__ = [
    "AlreadyExists",
    "ApiError",
    "CacheMutated",
    "Client",
    "ConfigurationError",
    "Conflict",
    "ConnectionFailed",
    "DeletedFinalStateUnknown",
    "EventHandlers",
    "Expired",
    "Forbidden",
    "Indexer",
    "InformerMetrics",
    "Invalid",
    "KubernetesError",
    "ListerWatcher",
    "MutationCache",
    "NoCredentials",
    "NotFound",
    "Registration",
    "RequestMetrics",
    "Resource",
    "ServerError",
    "SharedInformer",
    "Stop",
    "Stopped",
    "TooManyRequests",
    "TransformFailed",
    "Unauthorized",
    "WatchEvent",
    "WatchStream",
    "WrongKind",
    "make_key",
    "object_key",
    "split_key",
    "wait_for_sync",
]
