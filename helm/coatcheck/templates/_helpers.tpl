{{/* Names have room for the longest suffix that is put behind them. */}}
{{- define "coatcheck.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* What selects the pods of the release. It must never change: selectors are immutable. */}}
{{- define "coatcheck.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "coatcheck.labels" -}}
{{ include "coatcheck.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: coatcheck
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* image takes registry, repository, tag and digest. */}}
{{- define "coatcheck.image" -}}
{{- with .registry }}{{ . }}/{{ end }}{{ .repository }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end }}
{{- end }}

{{/* shopImage takes root, name and digest. */}}
{{- define "coatcheck.shopImage" -}}
{{- $image := .root.Values.image -}}
{{- include "coatcheck.image" (dict "registry" $image.registry "repository" (printf "%s/%s" $image.repository .name) "tag" (default .root.Chart.AppVersion $image.tag) "digest" .digest) -}}
{{- end }}

{{/* What every pod has for the Pod Security Standard "restricted", and a little more. */}}
{{- define "coatcheck.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "coatcheck.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end }}

{{/* Where a pod may run: nodeSelector, affinity, priority. */}}
{{- define "coatcheck.placement" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "coatcheck.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* replicas is the number of pods at least. */}}
{{- define "coatcheck.replicas" -}}
{{- if .autoscaling.enabled }}{{ .autoscaling.minReplicas }}{{ else if kindIs "invalid" .replicas }}3{{ else }}{{ .replicas }}{{ end -}}
{{- end }}

{{/* host is that of publicURL. */}}
{{- define "coatcheck.host" -}}
{{- (urlParse .Values.publicURL).hostname -}}
{{- end }}

{{/* plain writes a number as people do: Helm has all of them as floats, and a million would be 1e+06. */}}
{{- define "coatcheck.plain" -}}
{{- if kindIs "float64" . }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}
