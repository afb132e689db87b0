{{- define "compass-runtime-agent.namespace" -}}
{{ .Values.namespace | default .Release.Namespace }}
{{- end }}
