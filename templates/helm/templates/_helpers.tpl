{{- define "llm.fullname" -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "llm.filesName" -}}
{{- printf "%s-files" (include "llm.fullname" . | trunc 57 | trimSuffix "-") -}}
{{- end -}}

{{- define "llm.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "llm.labels" -}}
{{ include "llm.selectorLabels" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* A value as text: whole numbers that Helm reads as floats come out without an exponent. */}}
{{- define "llm.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{/* A word of a command: quoted for YAML, and its dollars kept from Kubernetes' $(NAME) expansion. */}}
{{- define "llm.word" -}}
{{ . | toString | replace "$" "$$" | toJson }}
{{- end -}}
