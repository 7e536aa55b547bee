{{- define "yatagarasu.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "yatagarasu.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "yatagarasu.metadata" -}}
name: {{ include "yatagarasu.name" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "yatagarasu.selector" . | nindent 2 }}
  app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* Port of a listener that the configuration names as address:port. */}}
{{- define "yatagarasu.adminPort" -}}
{{- $listen := dig "admin" "listen" "" .Values.config -}}
{{- if not $listen -}}
{{- fail "config.admin.listen: probes and metrics need a port of their own; write \"0.0.0.0:9090\"" -}}
{{- end -}}
{{- if regexMatch "^(127\\.|\\[::1\\])" $listen -}}
{{- fail (printf "config.admin.listen: probes cannot reach %s; write \"0.0.0.0:9090\"" $listen) -}}
{{- end -}}
{{- regexFind "[0-9]+$" $listen -}}
{{- end -}}

{{/* Fails where a pod would be killed while it drains. */}}
{{- define "yatagarasu.stopsInTime" -}}
{{- $delay := dig "server" "timeouts" "drain_delay" 0 .Values.config | int -}}
{{- $drain := dig "server" "timeouts" "drain" 30 .Values.config | int -}}
{{- $needed := add $delay $drain 3 | int -}}
{{- if lt (int .Values.terminationGracePeriodSeconds) $needed -}}
{{- fail (printf "terminationGracePeriodSeconds: requests would be cut; write %d or more, which is config.server.timeouts.drain_delay, drain, and 3 s to end" $needed) -}}
{{- end -}}
{{- end -}}

{{- define "yatagarasu.port" -}}
{{- dig "server" "port" 8080 .Values.config -}}
{{- end -}}

{{/* Port of the TLS listener; nothing without one. */}}
{{- define "yatagarasu.tlsPort" -}}
{{- with dig "server" "tls" nil .Values.config }}{{ dig "port" 8443 . }}{{ end -}}
{{- end -}}
