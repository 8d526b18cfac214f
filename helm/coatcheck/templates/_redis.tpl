{{/* redisEnv is how auth and cart find Redis. */}}
{{- define "coatcheck.redisEnv" -}}
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
{{- with $external.username }}
REDIS_USERNAME: {{ . | quote }}
{{- end }}
{{- end }}
{{- if include "coatcheck.redisSecret" . }}
REDIS_PASSWORD_FILE: /etc/coatcheck/redis/password
{{- end }}
{{- end }}

{{/* redisFiles is a list of the file with its password, empty if it has none. */}}
{{- define "coatcheck.redisFiles" -}}
{{- with include "coatcheck.redisSecret" . }}
- { path: /etc/coatcheck/redis/password, secret: {{ . }}, key: {{ include "coatcheck.redisPasswordKey" $ }} }
{{- else -}}
[]
{{- end }}
{{- end }}

{{/* redisConf is redis.conf. What keeps changes comes last, since the last of two equal directives holds. */}}
{{- define "coatcheck.redisConf" -}}
{{- range $directive, $value := .Values.redis.config -}}
{{ $directive }} {{ include "coatcheck.plain" $value }}
{{ end -}}
# A file of the Secret, with requirepass: without it Redis does not start.
include /etc/coatcheck/redis-password/requirepass.conf
bind * -::*
port 6379
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
