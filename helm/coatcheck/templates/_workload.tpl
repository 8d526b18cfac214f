{{/*
A stateless service: service account, Deployment, headless Service, autoscaler, disruption budget, network policy.

root     the chart's context
name     of the service: its key in the values, its image, its suffix in names
port     dict of name and number: where it serves
env      settings that the chart makes, by name without COATCHECK_
files    list of dicts of path, key, and secret or configMap: files that it reads in /etc/coatcheck/; with keys, a list
         of them, the path is a folder, whose files change together
sums     further pod annotations
from     list of peers that may reach the port; empty for all
to       list of egress rules beside DNS
*/}}
{{- define "coatcheck.workload" -}}
{{- $root := .root -}}
{{- $values := index $root.Values .name -}}
{{- $fullname := printf "%s-%s" (include "coatcheck.fullname" $root) .name -}}
{{- $selector := printf "%s\napp.kubernetes.io/component: %s" (include "coatcheck.selectorLabels" $root) .name -}}
{{- $labels := printf "%s\napp.kubernetes.io/component: %s" (include "coatcheck.labels" $root) .name -}}
{{- $env := dict "DRAIN_DELAY" (printf "%ds" (int $values.drainDelaySeconds)) "STOP_TIMEOUT" (printf "%ds" (int $values.stopTimeoutSeconds)) -}}
{{- $env = mergeOverwrite $env .env $values.settings -}}
{{- $files := .files | default list -}}
{{- if $root.Values.tls.enabled -}}
{{- $files = append $files (dict "path" "/etc/coatcheck/tls" "secret" (include "coatcheck.tlsSecret" .) "keys" (list "tls.crt" "tls.key" "ca.crt")) -}}
{{- $env = mergeOverwrite $env (dict "TLS_CERT_FILE" "/etc/coatcheck/tls/tls.crt" "TLS_KEY_FILE" "/etc/coatcheck/tls/tls.key" "TLS_CA_FILE" "/etc/coatcheck/tls/ca.crt") -}}
{{- end -}}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $fullname }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- $labels | nindent 4 }}
  {{- with $values.serviceAccountAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $fullname }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- $labels | nindent 4 }}
spec:
  {{- if not $values.autoscaling.enabled }}
  replicas: {{ include "coatcheck.replicas" $values }}
  {{- end }}
  revisionHistoryLimit: 3
  minReadySeconds: 5
  strategy:
    type: RollingUpdate
    rollingUpdate: { maxUnavailable: 0, maxSurge: 1 }
  selector:
    matchLabels: {{- $selector | nindent 6 }}
  template:
    metadata:
      labels: {{- $selector | nindent 8 }}
        app.kubernetes.io/part-of: coatcheck
        app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
        {{- with $values.podLabels }}{{ toYaml . | nindent 8 }}{{ end }}
      annotations:
        {{- range $name, $sum := .sums }}
        {{ $name }}: {{ $sum | quote }}
        {{- end }}
        {{- if $root.Values.metrics.podAnnotations }}
        prometheus.io/scrape: "true"
        prometheus.io/port: "9100"
        prometheus.io/path: /metrics
        {{- end }}
        {{- with $values.podAnnotations }}{{ toYaml . | nindent 8 }}{{ end }}
    spec:
      serviceAccountName: {{ $fullname }}
      {{- include "coatcheck.podSecurity" $root | nindent 6 }}
      {{- with include "coatcheck.pullSecrets" $root }}{{ . | trim | nindent 6 }}{{ end }}
      {{- with include "coatcheck.placement" $values }}{{ . | trim | nindent 6 }}{{ end }}
      # The whole drain, and time to see one that is stuck (alert DrainStuck): what is not done by then is killed.
      terminationGracePeriodSeconds: {{ add $values.drainDelaySeconds $values.stopTimeoutSeconds 45 }}
      tolerations:
        # A pod that keeps nothing is worth nothing on a node that is silent.
        - { key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 30 }
        - { key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 30 }
        {{- with $values.tolerations }}{{ toYaml . | nindent 8 }}{{ end }}
      topologySpreadConstraints:
        {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
        - topologyKey: {{ $key }}
          maxSkew: 1
          whenUnsatisfiable: ScheduleAnyway
          # A node that is drained or lost is no place to spread to.
          nodeTaintsPolicy: Honor
          labelSelector:
            matchLabels: {{- $selector | nindent 14 }}
          # Without it a roll-out counts the pods that are about to go.
          matchLabelKeys: [pod-template-hash]
        {{- end }}
      containers:
        - name: {{ .name }}
          image: {{ include "coatcheck.shopImage" (dict "root" $root "name" .name "digest" $values.digest) }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          {{- include "coatcheck.containerSecurity" $root | nindent 10 }}
          env:
            {{- range $key, $value := $env }}
            - { name: COATCHECK_{{ $key }}, value: {{ include "coatcheck.plain" $value | quote }} }
            {{- end }}
            {{- with $values.processors }}
            - { name: GOMAXPROCS, value: {{ . | quote }} }
            {{- end }}
            {{- with $root.Values.tracing }}
            {{- if .endpoint }}
            - { name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ .endpoint | quote }} }
            - { name: OTEL_TRACES_SAMPLER, value: parentbased_traceidratio }
            - { name: OTEL_TRACES_SAMPLER_ARG, value: {{ .samplerRatio | quote }} }
            {{- end }}
            {{- end }}
          ports:
            - { name: {{ .port.name }}, containerPort: {{ .port.number }} }
            - { name: admin, containerPort: 9100 }
          startupProbe:
            httpGet: { path: /livez, port: admin }
            periodSeconds: 1
            timeoutSeconds: 5
            failureThreshold: 60
          readinessProbe:
            httpGet: { path: /readyz, port: admin }
            periodSeconds: 2
            timeoutSeconds: 5
            failureThreshold: 3
          # It looks at the process only, and is slow to judge: a restart helps nobody in an outage or on a busy node.
          livenessProbe:
            httpGet: { path: /livez, port: admin }
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          resources: {{- toYaml $values.resources | nindent 12 }}
          {{- with $files }}
          volumeMounts:
            {{- range . }}
            - { name: {{ base .path | replace "." "-" }}, mountPath: {{ ternary .path (dir .path) (hasKey . "keys") }}, readOnly: true }
            {{- end }}
          {{- end }}
      {{- with $files }}
      volumes:
        {{- range . }}
        - name: {{ base .path | replace "." "-" }}
          {{- if .secret }}
          secret:
            secretName: {{ .secret }}
            defaultMode: 0440
            {{- if .keys }}
            items:
              {{- range .keys }}
              - { key: {{ . }}, path: {{ . }} }
              {{- end }}
            {{- else }}
            items: [{ key: {{ .key }}, path: {{ base .path }} }]
            {{- end }}
          {{- else }}
          configMap:
            name: {{ .configMap }}
            items: [{ key: {{ .key }}, path: {{ base .path }} }]
          {{- end }}
        {{- end }}
      {{- end }}
---
# Headless: a gRPC client must see every pod; behind one address all calls would stay with the pod they first met.
apiVersion: v1
kind: Service
metadata:
  name: {{ $fullname }}-pods
  namespace: {{ $root.Release.Namespace }}
  labels: {{- $labels | nindent 4 }}
spec:
  clusterIP: None
  selector: {{- $selector | nindent 4 }}
  ports:
    - { name: {{ .port.name }}, port: {{ .port.number }}, targetPort: {{ .port.name }}, appProtocol: {{ .port.name }} }
    - { name: admin, port: 9100, targetPort: admin, appProtocol: http }
{{- if $values.autoscaling.enabled }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ $fullname }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- $labels | nindent 4 }}
spec:
  scaleTargetRef: { apiVersion: apps/v1, kind: Deployment, name: {{ $fullname }} }
  minReplicas: {{ $values.autoscaling.minReplicas }}
  maxReplicas: {{ $values.autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: { type: Utilization, averageUtilization: {{ $values.autoscaling.targetCPUUtilizationPercentage }} }
  {{- with $values.autoscaling.behavior }}
  behavior: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- if gt (include "coatcheck.replicas" $values | int) 1 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $fullname }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- $labels | nindent 4 }}
spec:
  maxUnavailable: 1
  # A pod that is broken anyway must not hold up the drain of its node.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- $selector | nindent 6 }}
{{- end }}
{{- if $root.Values.networkPolicy.enabled }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ $fullname }}
  namespace: {{ $root.Release.Namespace }}
  labels: {{- $labels | nindent 4 }}
spec:
  podSelector:
    matchLabels: {{- $selector | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - ports: [{ protocol: TCP, port: {{ .port.number }} }]
      {{- with .from }}
      from: {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- with $root.Values.networkPolicy.metricsFrom }}
    - ports: [{ protocol: TCP, port: 9100 }]
      from: {{- toYaml . | nindent 8 }}
    {{- end }}
  egress:
    {{- include "coatcheck.egressDNS" $root | nindent 4 }}
    {{- toYaml .to | nindent 4 }}
    {{- with $root.Values.tracing.endpoint }}
    - ports: [{ protocol: TCP, port: {{ splitList ":" . | last }} }]
      {{- with $root.Values.networkPolicy.tracesTo }}
      to: {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- end }}
{{- end }}
{{- end }}
