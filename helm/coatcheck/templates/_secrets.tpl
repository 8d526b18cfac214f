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
{{- $had := (lookup "v1" "Secret" .Release.Namespace (include "coatcheck.redisSecret" .)).data | default dict -}}
{{- $acl := .Values.redis.acl -}}
{{- $password := include "coatcheck.password" (dict "had" $had "key" .Values.redis.passwordKey) -}}
{{- $redis = dict .Values.redis.passwordKey ($password | b64enc) -}}
{{- if $acl.enabled -}}
{{- $users := printf "user default on #%s ~* &* +@all\n" (sha256sum $password) -}}
{{- range $user := list "auth" "cart" -}}
{{- $key := index $acl (printf "%sPasswordKey" $user) -}}
{{- $own := include "coatcheck.password" (dict "had" $had "key" $key) -}}
{{- $_ := set $redis $key ($own | b64enc) -}}
{{- $users = printf "%suser %s on #%s %s\n" $users $user (sha256sum $own) ($.Files.Get (printf "acl/%s.acl" $user) | trim) -}}
{{- end -}}
{{- $_ := set $redis $acl.usersKey ($users | b64enc) -}}
{{- else -}}
{{- $_ := set $redis .Values.redis.requirepassKey (printf "requirepass %s\n" $password | b64enc) -}}
{{- end -}}
{{- end -}}
{{- $_ := set .Values "_secrets" (dict "auth" $auth "redis" $redis) -}}
{{- end -}}
{{- end }}

{{/* password takes had, the data of a Secret, and key: what is there, or a new one. */}}
{{- define "coatcheck.password" -}}
{{- if hasKey .had .key }}{{ index .had .key | b64dec }}{{ else }}{{ randAlphaNum 32 }}{{ end -}}
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

{{/*
redisSum is a checksum of the Secret of the chart's Redis, so that Redis starts anew when an upgrade finds it changed; the
services read their files again by themselves. One that the chart does not make is read from the cluster; empty where none
can be asked.
*/}}
{{- define "coatcheck.redisSum" -}}
{{- include "coatcheck.secrets" . -}}
{{- $data := .Values._secrets.redis -}}
{{- if not $data -}}
{{- $data = (lookup "v1" "Secret" .Release.Namespace (include "coatcheck.redisSecret" .)).data | default dict -}}
{{- end -}}
{{- if $data }}{{ toJson $data | sha256sum }}{{ end -}}
{{- end }}

{{/* tlsSecret takes root and name: the Secret with the certificate of a part. */}}
{{- define "coatcheck.tlsSecret" -}}
{{- index .root.Values.tls.existingSecrets .name | default (printf "%s-%s-tls" (include "coatcheck.fullname" .root) .name) -}}
{{- end }}

{{/* caller takes root and name: the name in a part's certificate by which others know it. */}}
{{- define "coatcheck.caller" -}}
{{- include "coatcheck.fullname" .root }}-{{ .name }}.{{ .root.Release.Namespace }}.svc
{{- end }}
