{{/* prometheusConfig is the files of the chart's own Prometheus. */}}
{{- define "coatcheck.prometheusConfig" -}}
prometheus.yml: |
  global: { scrape_interval: {{ .Values.prometheus.interval }}, evaluation_interval: {{ .Values.prometheus.interval }} }
  rule_files: [rules.yaml]
  scrape_configs:
  {{- range $part := list "gateway" "auth" "cart" }}
    - job_name: coatcheck-{{ $part }}
      dns_sd_configs:
        - { names: [{{ include "coatcheck.fullname" $ }}-{{ $part }}-scrape.{{ $.Release.Namespace }}.svc], type: A, port: 9100, refresh_interval: 5s }
      relabel_configs:
        - { target_label: namespace, replacement: {{ $.Release.Namespace }} }
  {{- end }}
rules.yaml: |
  groups: {{- include "coatcheck.ruleGroups" . | nindent 4 }}
{{- end }}

{{/* scraped selects the pods of gateway, auth and cart, as a peer of a policy. */}}
{{- define "coatcheck.scraped" -}}
{ podSelector: { matchLabels: {{ include "coatcheck.selectorLabels" . | fromYaml | toJson }}, matchExpressions: [{ key: app.kubernetes.io/component, operator: In, values: [gateway, auth, cart] }] } }
{{- end }}

{{/* grafanaConfig is the files that tell Grafana where Prometheus and the dashboards are. */}}
{{- define "coatcheck.grafanaConfig" -}}
datasources.yaml: |
  apiVersion: 1
  datasources:
    - name: Prometheus
      type: prometheus
      uid: prometheus
      url: http://{{ include "coatcheck.fullname" . }}-prometheus:9090
      isDefault: true
      jsonData: { timeInterval: {{ .Values.prometheus.interval }} }
dashboards.yaml: |
  apiVersion: 1
  providers:
    - { name: coatcheck, folder: coatcheck, type: file, allowUiUpdates: false, options: { path: /etc/coatcheck/dashboards } }
{{- end }}
