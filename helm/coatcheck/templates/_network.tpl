{{/* peer takes root and name: the pods of one part, as a peer of a policy. */}}
{{- define "coatcheck.peer" -}}
podSelector:
  matchLabels: {{- include "coatcheck.selectorLabels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
{{- end }}

{{- define "coatcheck.egressDNS" -}}
- ports:
    - { protocol: UDP, port: 53 }
    - { protocol: TCP, port: 53 }
  to: {{- toYaml .Values.networkPolicy.dnsTo | nindent 4 }}
{{- end }}

{{/* egressRedis is the way to Redis, the release's own or an external one. */}}
{{- define "coatcheck.egressRedis" -}}
{{- if .Values.redis.enabled -}}
- ports: [{ protocol: TCP, port: 6379 }]
  to:
    - {{ include "coatcheck.peer" (dict "root" . "name" "redis") | indent 6 | trim }}
{{- else -}}
{{- $external := .Values.redis.external -}}
{{- $ports := $external.ports | default (ternary (list 6379) list (eq $external.mode "sentinel")) -}}
{{- range $external.addrs }}{{ $ports = append $ports (splitList ":" . | last | int) }}{{ end -}}
- ports:
    {{- range $ports | uniq }}
    - { protocol: TCP, port: {{ int . }} }
    {{- end }}
  {{- with .Values.networkPolicy.redisTo }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
{{- end }}
