{{- define "carbonmon.name" -}}
{{- if contains "carbonmon" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-carbonmon" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "carbonmon.selector" -}}
app.kubernetes.io/name: carbonmon
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "carbonmon.labels" -}}
{{ include "carbonmon.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{- define "carbonmon.account" -}}
{{- .Values.serviceAccount.name | default (ternary (include "carbonmon.name" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "carbonmon.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{/* What both containers may do: nothing but own root's files. */}}
{{- define "carbonmon.rights" -}}
# energy_uj is root's (0400), and so are cgroups; no capability goes with it.
runAsUser: 0
runAsGroup: 0
runAsNonRoot: false
privileged: false
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* With a web config every path may need a password or a certificate, which the kubelet does not have. */}}
{{- define "carbonmon.probe" -}}
{{- if .root.Values.webConfigSecret -}}
tcpSocket:
  port: metrics
{{- else -}}
httpGet:
  path: {{ .path }}
  port: metrics
{{- end -}}
{{- end -}}
