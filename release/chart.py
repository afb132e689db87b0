"""A Helm chart made from the manifests that kustomize renders.

The manifests stay the only source: their values become the chart's defaults, and a template stands in their places. So
the chart with its defaults renders what kustomize renders. What is fixed text is in the folder chart/.
"""

import copy
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from controller.settings import Variable
from release.manifests import Object

NAME = "compass-runtime-agent"
NAMESPACE = "kyma-system"
"""The namespace of the agent in the manifests."""

_FIXED = Path(__file__).parent / "chart"
_NAMESPACE_TEMPLATE = f'{{{{ include "{NAME}.namespace" . }}}}'

# Ends of lines that mark places in the manifests until these are text, and what then replaces them.
_PLACES = {
    ": NAMESPACE-PLACE": f": {_NAMESPACE_TEMPLATE}",
    ": IMAGE-PLACE": ': "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"',
    ": PULL-POLICY-PLACE": ": {{ .Values.image.pullPolicy }}",
    ": REPLICAS-PLACE": ": {{ .Values.replicas }}",
    ": RESOURCES-PLACE": ":{{- toYaml .Values.resources | nindent 10 }}",
    "- ENV-PLACE": """{{- range $name, $value := .Values.env }}
        - name: {{ $name }}
          value: {{ tpl (toString $value) $ | quote }}
        {{- end }}
        {{- if and .Values.compassCA.configMap (not .Values.env.APP_COMPASS_CA_FILE) }}
        - name: APP_COMPASS_CA_FILE
          value: /etc/compass-ca/ca.crt
        {{- end }}""",
    "CONTAINER-PLACE: null": """{{- if .Values.compassCA.configMap }}
        volumeMounts:
        - name: compass-ca
          mountPath: /etc/compass-ca
          readOnly: true
        {{- end }}""",
    "POD-PLACE: null": """{{- range $name := list "imagePullSecrets" "nodeSelector" "tolerations" "affinity" }}
      {{- with index $.Values $name }}
      {{ $name }}: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- end }}
      {{- with .Values.compassCA.configMap }}
      volumes:
      - name: compass-ca
        configMap:
          name: {{ . }}
      {{- end }}""",
    ": ANNOTATIONS-PLACE": ":{{- toYaml .Values.podAnnotations | nindent 8 }}",
    ": ACCOUNT-PLACE": f': {{{{ .Values.serviceAccount.name | default "{NAME}" }}}}',
    "- METRICS-FROM-PLACE": """{{- with .Values.networkPolicy.metricsFrom }}
    {{- toYaml . | nindent 4 }}
    {{- end }}""",
    ": LABELS-PLACE": ":{{- toYaml .Values.serviceMonitor.labels | nindent 4 }}",
}

#: Fields whose value is a place in every object.
_FIELDS = {("namespace", NAMESPACE): "NAMESPACE-PLACE", ("serviceAccountName", NAME): "ACCOUNT-PLACE"}

#: Objects that a value turns off or on.
_CONDITIONS = {
    ("ServiceAccount", NAME): ".Values.serviceAccount.create",
    ("NetworkPolicy", NAME): ".Values.networkPolicy.enabled",
    ("NetworkPolicy", f"{NAME}-prometheus"): ".Values.serviceMonitor.enabled",
    ("Service", f"{NAME}-metrics"): ".Values.serviceMonitor.enabled",
    ("ServiceMonitor", NAME): ".Values.serviceMonitor.enabled",
}

#: A namespace that is there already, as in Kyma, is left alone; one that the chart made stays when the chart goes.
_NAMESPACE_GUARD = """{{{{- if not (lookup "v1" "Namespace" "" "{name}") }}}}
{text}{{{{- end }}}}
"""

_VALUES_HEAD = {
    "image": "# The image. An empty tag is the version of the chart.",
    "replicas": "# One replica works, the others stand by.",
    "namespace": "# Of the agent and its Secrets. Empty: that of the release.",
    "env": "# Settings: docs/operations.md explains each. Values may hold templates. null takes a variable away.",
    "resources": "# No limit of CPU: a throttled process cannot renew its Lease.",
    "compassCA": "# For a private CA: a ConfigMap with the CA certificates of Compass in the key ca.crt.",
    "imagePullSecrets": "# As in the spec of a Pod, like the next three.",
    "nodeSelector": "",
    "tolerations": "",
    "affinity": "",
    "podAnnotations": "# null takes an annotation away.",
    "serviceAccount": "# Without create, `name` has to exist. Empty: compass-runtime-agent.",
    "serviceMonitor": "# Service, ServiceMonitor and NetworkPolicy for the Prometheus operator. Needs its CRDs.",
    "networkPolicy": "# metricsFrom: more Pods that may read the metrics, as in the `from` of a NetworkPolicy.",
}


def chart(
    rendered: Sequence[Object],
    *,
    version: str,
    description: str,
    home: str,
    image: str,
    settings: Sequence[Variable],
) -> dict[str, str]:
    """Files of the chart, by their path in it. `image` is a name without a tag.

    Raises ValueError when the manifests hold what would be taken for a template.
    """
    if "{{" in yaml.safe_dump_all(rendered):
        raise ValueError("a manifest holds '{{', which Helm would take for a template")
    values: Object = {}
    monitor_labels: Object = {}
    files: dict[str, str] = {}
    kinds: dict[str, list[str]] = defaultdict(list)
    for obj in map(copy.deepcopy, rendered):
        kind, name = obj["kind"], obj["metadata"]["name"]
        if kind == "CustomResourceDefinition":
            files[f"crds/{name}.yaml"] = _dump(obj)
        elif kind == "Namespace":
            if name != NAMESPACE:  # helm install --create-namespace makes the agent's own
                kinds[kind].append(_namespace(obj))
        else:
            if kind == "Deployment":
                values = _take_values(obj, image=image, settings=settings)
            elif kind == "NetworkPolicy" and name == NAME:
                _with_more_scrapers(obj)
            elif kind == "ServiceMonitor":
                monitor_labels = obj["metadata"]["labels"]
                obj["metadata"]["labels"] = "LABELS-PLACE"
            elif kind == "ServiceAccount":
                obj["metadata"]["name"] = "ACCOUNT-PLACE"
            text = _templated(_with_places(obj))
            if condition := _CONDITIONS.get((kind, name)):
                text = f"{{{{- if {condition} }}}}\n{text}{{{{- end }}}}\n"
            kinds[kind].append(text)
    values["serviceMonitor"]["labels"] = monitor_labels
    for kind, texts in kinds.items():
        files[f"templates/{kind.lower()}.yaml"] = "---\n".join(texts)
    meta = yaml.safe_load((_FIXED / "Chart.yaml").read_text())
    meta |= {"version": version, "appVersion": version, "description": description, "home": home, "sources": [home]}
    return files | {
        "Chart.yaml": _dump(meta),
        "values.yaml": "\n".join(f"{head}\n{_dump({key: values[key]})}".lstrip() for key, head in _VALUES_HEAD.items()),
        "values.schema.json": json.dumps(_schema([variable.name for variable in settings]), indent=2) + "\n",
        "templates/_helpers.tpl": (_FIXED / "_helpers.tpl").read_text(),
        "templates/NOTES.txt": (_FIXED / "NOTES.txt").read_text(),
    }


def _dump(value: object) -> str:
    return yaml.safe_dump(value, sort_keys=False, width=10_000)


def _take_values(deployment: Object, *, image: str, settings: Sequence[Variable]) -> Object:
    """Takes what users may change out of the Deployment, and leaves words in its places."""
    spec = deployment["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    env = {variable["name"]: _movable(variable["value"]) for variable in container["env"] if "value" in variable}
    # What is not set because its default is the manifests' namespace has to follow the chart's.
    env |= {v.name: _movable(v.default) for v in settings if v.name not in env and _movable(v.default) != v.default}
    values = {
        "image": {"repository": image, "tag": "", "pullPolicy": container["imagePullPolicy"]},
        "replicas": spec["replicas"],
        "namespace": "",
        "env": env,
        "resources": container["resources"],
        "compassCA": {"configMap": ""},
        "imagePullSecrets": [],
        "nodeSelector": {},
        "tolerations": [],
        "affinity": {},
        "podAnnotations": spec["template"]["metadata"]["annotations"],
        "serviceAccount": {"create": True, "name": ""},
        "serviceMonitor": {"enabled": False},
        "networkPolicy": {"enabled": True, "metricsFrom": []},
    }
    spec["template"]["metadata"]["annotations"] = "ANNOTATIONS-PLACE"
    spec["template"]["spec"]["POD-PLACE"] = container["CONTAINER-PLACE"] = None
    spec["replicas"] = "REPLICAS-PLACE"
    container |= {
        "image": "IMAGE-PLACE",
        "imagePullPolicy": "PULL-POLICY-PLACE",
        "env": [*(variable for variable in container["env"] if "value" not in variable), "ENV-PLACE"],
        "resources": "RESOURCES-PLACE",
    }
    return values


def _with_more_scrapers(policy: Object) -> None:
    """A place in the rule that names sources, which is that of the metrics."""
    (rule,) = [rule for rule in policy["spec"]["ingress"] if "from" in rule]
    rule["from"].append("METRICS-FROM-PLACE")


def _movable(value: str) -> str:
    """A value that is the agent's namespace, or begins with it as in `kyma-system/name`."""
    head, slash, rest = value.partition("/")
    return f"{_NAMESPACE_TEMPLATE}{slash}{rest}" if head == NAMESPACE else value


def _with_places(value: Any, key: str = "") -> Any:
    """With places for the agent's namespace, and for the name of its ServiceAccount where others refer to it."""
    match value:
        case {"kind": "ServiceAccount", "name": str()}:  # a subject; the object itself has its name in metadata
            return {**value, "name": "ACCOUNT-PLACE", "namespace": "NAMESPACE-PLACE"}
        case dict():
            return {name: _with_places(part, name) for name, part in value.items()}
        case list():
            return [_with_places(part) for part in value]
        case str():
            return _FIELDS.get((key, value), value)
        case _:
            return value


def _templated(obj: Object) -> str:
    text = _dump(obj)
    for word, template in _PLACES.items():
        text = text.replace(f"{word}\n", f"{template}\n")
    return text


def _namespace(obj: Object) -> str:
    obj["metadata"].setdefault("annotations", {})["helm.sh/resource-policy"] = "keep"
    return _NAMESPACE_GUARD.format(name=obj["metadata"]["name"], text=_dump(obj))


def _schema(variables: Sequence[str]) -> Object:
    """JSON schema of the values: a name that does not exist is an error and not passed over."""
    text, truth = {"type": "string"}, {"type": "boolean"}
    return {
        "$schema": "https://json-schema.org/draft-07/schema#",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "global": {"type": "object"},
            "image": _object(
                {
                    "repository": {"type": "string", "minLength": 1},
                    "tag": text,
                    "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
                }
            )
            | {"required": ["repository"]},
            "replicas": {"type": "integer", "minimum": 0},
            "namespace": text,
            "env": {
                "type": "object",
                "propertyNames": {"enum": list(variables)},
                "additionalProperties": {"type": ["string", "number", "boolean"]},
            },
            "resources": {"type": "object"},
            "compassCA": _object({"configMap": text}),
            "imagePullSecrets": {"type": "array", "items": _object({"name": text}) | {"required": ["name"]}},
            "nodeSelector": {"type": "object", "additionalProperties": text},
            "tolerations": {"type": "array", "items": {"type": "object"}},
            "affinity": {"type": "object"},
            "podAnnotations": {"type": "object", "additionalProperties": text},
            "serviceAccount": _object({"create": truth, "name": text}),
            "serviceMonitor": _object({"enabled": truth, "labels": {"type": "object", "additionalProperties": text}}),
            "networkPolicy": _object({"enabled": truth, "metricsFrom": {"type": "array", "items": {"type": "object"}}}),
        },
    }


def _object(properties: Object) -> Object:
    return {"type": "object", "additionalProperties": False, "properties": properties}
