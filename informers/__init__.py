"""Informers for Kubernetes: a correct list+watch, indexed caches and a client of plain dicts. See README.md."""

import informers._deferred  # noqa: F401 - first, before the official client is imported
from informers.client import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, Client
from informers.errors import (
    AlreadyExists,
    ApiError,
    BadRequest,
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
    TooLargeResourceVersion,
    TooManyRequests,
    TransformFailed,
    Unauthorized,
    WrongKind,
)
from informers.handlers import DeletedFinalStateUnknown, EventHandlers, Registration
from informers.indexer import NAMESPACE_INDEX, Indexer, index_by_namespace
from informers.informer import SharedInformer, wait_for_sync
from informers.lister import Lister
from informers.lister_watcher import ListerWatcher, ResourceListerWatcher, Watcher
from informers.metrics import InformerMetrics, RequestMetrics
from informers.mutation_cache import MutationCache
from informers.mutation_detector import CacheMutated
from informers.reflector import Reflector, ReflectorOptions
from informers.resource import Resource, make_key, object_key, split_key
from informers.transport import Stop, Stopped
from informers.watch import WatchEvent, WatchStream

__all__ = [
    "APPLY_PATCH",
    "JSON_PATCH",
    "MERGE_PATCH",
    "NAMESPACE_INDEX",
    "AlreadyExists",
    "ApiError",
    "BadRequest",
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
    "Lister",
    "ListerWatcher",
    "MutationCache",
    "NoCredentials",
    "NotFound",
    "Reflector",
    "ReflectorOptions",
    "Registration",
    "RequestMetrics",
    "Resource",
    "ResourceListerWatcher",
    "ServerError",
    "SharedInformer",
    "Stop",
    "Stopped",
    "TooLargeResourceVersion",
    "TooManyRequests",
    "TransformFailed",
    "Unauthorized",
    "WatchEvent",
    "WatchStream",
    "Watcher",
    "WrongKind",
    "index_by_namespace",
    "make_key",
    "object_key",
    "split_key",
    "wait_for_sync",
]
