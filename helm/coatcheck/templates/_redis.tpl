{{/* redisUsers says whether auth and cart are users of Redis of their own; else it is empty. */}}
{{- define "coatcheck.redisUsers" -}}
{{- if ternary .Values.redis.acl.enabled .Values.redis.external.acl .Values.redis.enabled }}true{{ end -}}
{{- end }}

{{/* redisEnv takes root and name: how auth or cart finds Redis, and who it is there. */}}
{{- define "coatcheck.redisEnv" -}}
{{- $name := .name -}}
{{- with .root -}}
{{- $external := .Values.redis.external -}}
{{- if .Values.redis.enabled }}
REDIS_ADDRS: {{ include "coatcheck.fullname" . }}-redis:6379
{{- else }}
REDIS_ADDRS: {{ join "," $external.addrs | quote }}
{{- if eq $external.mode "sentinel" }}
REDIS_MASTER: {{ $external.master | quote }}
{{- else if eq $external.mode "cluster" }}
REDIS_CLUSTER: "true"
{{- end }}
{{- end }}
{{- if include "coatcheck.redisUsers" . }}
REDIS_USERNAME: {{ $name }}
{{- else if and (not .Values.redis.enabled) $external.username }}
REDIS_USERNAME: {{ $external.username | quote }}
{{- end }}
{{- if include "coatcheck.redisSecret" . }}
REDIS_PASSWORD_FILE: /etc/coatcheck/redis/password
{{- end }}
{{- $folder := "" -}}
{{- if and .Values.redis.enabled .Values.tls.enabled -}}
{{- $folder = "/etc/coatcheck/tls" -}}
{{- else if and (not .Values.redis.enabled) $external.tls.enabled -}}
{{- $folder = "/etc/coatcheck/redis-tls" -}}
{{- end }}
{{- if $folder }}
REDIS_TLS: "true"
REDIS_TLS_CA_FILE: {{ $folder }}/ca.crt
{{- if or .Values.redis.enabled $external.tls.clientCertificate }}
REDIS_TLS_CERT_FILE: {{ $folder }}/tls.crt
REDIS_TLS_KEY_FILE: {{ $folder }}/tls.key
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* redisFiles takes root and name: a list of the files that auth or cart needs for Redis, empty if none. */}}
{{- define "coatcheck.redisFiles" -}}
{{- $files := list -}}
{{- $name := .name -}}
{{- with .root -}}
{{- $redis := .Values.redis -}}
{{- with include "coatcheck.redisSecret" . -}}
{{- $key := ternary $redis.passwordKey $redis.external.passwordKey $redis.enabled -}}
{{- if include "coatcheck.redisUsers" $.root }}{{ $key = index $redis.acl (printf "%sPasswordKey" $name) }}{{ end -}}
{{- $files = append $files (dict "path" "/etc/coatcheck/redis/password" "secret" . "key" $key) -}}
{{- end -}}
{{- if and (not $redis.enabled) $redis.external.tls.enabled -}}
{{- $keys := ternary (list "ca.crt" "tls.crt" "tls.key") (list "ca.crt") $redis.external.tls.clientCertificate -}}
{{- $files = append $files (dict "path" "/etc/coatcheck/redis-tls" "secret" $redis.external.tls.secret "keys" $keys) -}}
{{- end -}}
{{- end -}}
{{- toYaml $files -}}
{{- end }}

{{/* redisConf is redis.conf. What keeps changes comes last, since the last of two equal directives holds. */}}
{{- define "coatcheck.redisConf" -}}
{{- range $directive, $value := .Values.redis.config -}}
{{ $directive }} {{ include "coatcheck.plain" $value }}
{{ end -}}
{{ if .Values.redis.acl.enabled -}}
# A file of the Secret, with the users and their passwords: without it Redis does not start.
aclfile /etc/coatcheck/redis-password/users.acl
{{- else }}
# A file of the Secret, with requirepass: without it Redis does not start.
include /etc/coatcheck/redis-password/requirepass.conf
{{- end }}
bind * -::*
{{- if .Values.tls.enabled }}
port 0
tls-port 6379
tls-cert-file /etc/coatcheck/tls/tls.crt
tls-key-file /etc/coatcheck/tls/tls.key
tls-ca-cert-file /etc/coatcheck/tls/ca.crt
tls-auth-clients yes
{{- else }}
port 6379
{{- end }}
dir /data
# An acknowledged change is on disk.
appendonly yes
appendfsync always
no-appendfsync-on-rewrite no
save ""
# An evicted cart would be a lost one: rather refuse what does not fit.
maxmemory {{ .Values.redis.maxMemoryMiB }}mb
maxmemory-policy noeviction
{{- end }}
