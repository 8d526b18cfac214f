{{/*
The Secrets of the release. What is made here is made once: an upgrade takes what the cluster has.
A render may ask many times and must get one answer, so it is kept in the values.
*/}}
{{- define "coatcheck.secrets" -}}
{{- if not (hasKey .Values "_secrets") -}}
{{- $auth := dict -}}
{{- if not .Values.auth.existingSecret -}}
{{- $auth = (lookup "v1" "Secret" .Release.Namespace (include "coatcheck.authSecret" .)).data | default dict -}}
{{- if not (hasKey $auth .Values.auth.signingKeysKey) -}}
{{- $auth = dict .Values.auth.signingKeysKey (genPrivateKey "ed25519" | b64enc) -}}
{{- end -}}
{{- end -}}
{{- $redis := dict -}}
{{- if and .Values.redis.enabled (not .Values.redis.existingSecret) -}}
{{- $redis = (lookup "v1" "Secret" .Release.Namespace (include "coatcheck.redisSecret" .)).data | default dict -}}
{{- if not (and (hasKey $redis .Values.redis.passwordKey) (hasKey $redis .Values.redis.requirepassKey)) -}}
{{- $password := randAlphaNum 32 -}}
{{- $redis = dict .Values.redis.passwordKey ($password | b64enc) .Values.redis.requirepassKey (printf "requirepass %s\n" $password | b64enc) -}}
{{- end -}}
{{- end -}}
{{- $_ := set .Values "_secrets" (dict "auth" $auth "redis" $redis) -}}
{{- end -}}
{{- end }}

{{- define "coatcheck.authSecret" -}}
{{- .Values.auth.existingSecret | default (printf "%s-auth" (include "coatcheck.fullname" .)) -}}
{{- end }}

{{/* redisSecret is empty for an external Redis without a password. */}}
{{- define "coatcheck.redisSecret" -}}
{{- if .Values.redis.enabled -}}
{{- .Values.redis.existingSecret | default (printf "%s-redis" (include "coatcheck.fullname" .)) -}}
{{- else -}}
{{- .Values.redis.external.existingSecret -}}
{{- end -}}
{{- end }}

{{- define "coatcheck.redisPasswordKey" -}}
{{- ternary .Values.redis.passwordKey .Values.redis.external.passwordKey .Values.redis.enabled -}}
{{- end }}

{{/*
secretSum takes root, secret ("auth", "redis") and name: a checksum of what is in it, so that pods roll when an upgrade
finds it changed. A Secret that the chart does not make is read from the cluster; empty where none can be asked.
*/}}
{{- define "coatcheck.secretSum" -}}
{{- include "coatcheck.secrets" .root -}}
{{- $data := index .root.Values._secrets .secret -}}
{{- if not $data -}}
{{- $data = (lookup "v1" "Secret" .root.Release.Namespace .name).data | default dict -}}
{{- end -}}
{{- if $data }}{{ toJson $data | sha256sum }}{{ end -}}
{{- end }}
