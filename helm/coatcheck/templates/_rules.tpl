{{/*
ruleGroups is a list of the groups in rules/*.yaml, and of one that says how many replicas there must and can be, which
only the chart knows. Alerts get the address of their section of the runbook, if there is one.
*/}}
{{- define "coatcheck.ruleGroups" -}}
{{- $groups := list -}}
{{- range $path, $_ := .Files.Glob "rules/*.yaml" -}}
{{- $groups = concat $groups (($.Files.Get $path | fromYaml).groups) -}}
{{- end -}}
{{- if $groups -}}
{{- $bounds := list -}}
{{- range $name := list "gateway" "auth" "cart" -}}
{{- $values := index $.Values $name -}}
{{- $labels := dict "job" (printf "coatcheck-%s" $name) "namespace" $.Release.Namespace -}}
{{- $least := include "coatcheck.replicas" $values | int -}}
{{- $bounds = append $bounds (dict "record" "shop:replicas:min" "expr" (printf "vector(%d)" $least) "labels" $labels) -}}
{{- if and $values.autoscaling.enabled (gt (int $values.autoscaling.maxReplicas) $least) -}}
{{- $bounds = append $bounds (dict "record" "shop:replicas:max" "expr" (printf "vector(%d)" (int $values.autoscaling.maxReplicas)) "labels" $labels) -}}
{{- end -}}
{{- end -}}
{{- range $groups -}}
{{- range .rules -}}
{{- if and .alert $.Values.metrics.runbookURL -}}
{{- $_ := set .annotations "runbook_url" (printf "%s#%s" $.Values.metrics.runbookURL (lower .alert)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $groups = append $groups (dict "name" "coatcheck-replicas-bounds" "rules" $bounds) -}}
{{- end -}}
{{- toYaml $groups -}}
{{- end }}
