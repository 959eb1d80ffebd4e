{{/* The chart's part of names. */}}
{{- define "kubeagents.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The names of objects. 46 characters leave room for the longest suffix within the 63 of a label, and for the hash that
a StatefulSet's Pods carry. */}}
{{- define "kubeagents.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 46 | trimSuffix "-" }}
{{- else if contains (include "kubeagents.name" .) .Release.Name }}
{{- .Release.Name | trunc 46 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "kubeagents.name" .) | trunc 46 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* The labels that selectors use. They never change, because Kubernetes does not allow it. Takes a list of the context
and the component. */}}
{{- define "kubeagents.selectorLabels" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: {{ include "kubeagents.name" $ | quote }}
app.kubernetes.io/instance: {{ $.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 | quote }}
{{- end }}

{{/* All labels of an object. Takes a list of the context, the component and further labels, which take precedence over
those for all objects. */}}
{{- define "kubeagents.labels" -}}
{{- $ := index . 0 -}}
{{- $own := dict "helm.sh/chart" (printf "%s-%s" $.Chart.Name ($.Chart.Version | replace "+" "_")) "app.kubernetes.io/version" (toString $.Chart.AppVersion)
  "app.kubernetes.io/managed-by" $.Release.Service "app.kubernetes.io/part-of" "kubeagents" -}}
{{- $selector := include "kubeagents.selectorLabels" (list $ (index . 1)) | fromYaml -}}
{{- $further := dict -}}
{{- if gt (len .) 2 }}{{ $further = index . 2 | default dict }}{{ end -}}
{{- mustMergeOverwrite (dict) $own ($.Values.commonLabels | default dict) $further $selector | toYaml }}
{{- end }}

{{/* All labels of a Pod: without versions, so that a new chart alone does not restart it. Takes what kubeagents.labels
takes. */}}
{{- define "kubeagents.podLabels" -}}
{{- omit (include "kubeagents.labels" . | fromYaml) "helm.sh/chart" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" | toYaml }}
{{- end }}

{{/* The annotations of an object, with their key, or nothing. Takes a list of the context and further annotations. */}}
{{- define "kubeagents.annotations" -}}
{{- $ := index . 0 -}}
{{- with mustMergeOverwrite (dict) ($.Values.commonAnnotations | default dict) (index . 1 | default dict) -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* An image. Takes a list of the context and the values of the image. Whatever runs has one, so all is checked here. */}}
{{- define "kubeagents.image" -}}
{{- $ := index . 0 -}}
{{- $image := index . 1 -}}
{{- include "kubeagents.validate" $ }}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default $.Values.image.tag | default $.Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "kubeagents.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "kubeagents.fullname" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{- define "kubeagents.watcher.serviceAccountName" -}}
{{- if .Values.watcher.serviceAccount.create }}{{ .Values.watcher.serviceAccount.name | default (printf "%s-watcher" (include "kubeagents.fullname" .)) }}{{ else }}{{ .Values.watcher.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{- define "kubeagents.scheme" -}}
{{ if .Values.tls.existingSecret }}https{{ else }}http{{ end }}
{{- end }}

{{/* The URL by which Pods of this chart reach the server. */}}
{{- define "kubeagents.internalURL" -}}
{{- .Values.internalURL | default (printf "%s://%s.%s.svc:%d" (include "kubeagents.scheme" .) (include "kubeagents.fullname" .) .Release.Namespace (int .Values.service.port)) }}
{{- end }}

{{/* The URL by which people and agents reach the server, or nothing. */}}
{{- define "kubeagents.publicURL" -}}
{{- if .Values.settings.PUBLIC_URL }}
{{- .Values.settings.PUBLIC_URL }}
{{- else if and .Values.gateway.enabled .Values.gateway.host }}
{{- printf "%s://%s%s" (ternary "https" "http" .Values.gateway.https) .Values.gateway.host .Values.gateway.path | trimSuffix "/" }}
{{- else if and .Values.ingress.enabled .Values.ingress.host }}
{{- printf "%s://%s%s" (ternary "https" "http" .Values.ingress.tls.enabled) .Values.ingress.host .Values.ingress.path | trimSuffix "/" }}
{{- end }}
{{- end }}

{{/* A value of a setting as text. YAML's numbers arrive as floating-point ones, and 1000000 must not become 1e+06. */}}
{{- define "kubeagents.setting" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ printf "%.0f" . }}{{ else }}{{ toString . }}{{ end }}
{{- end }}

{{/* A size in bytes, written as the server does (512MiB, 1GB) or as Kubernetes does (512Mi, 1G). */}}
{{- define "kubeagents.bytes" -}}
{{- $size := include "kubeagents.setting" . | lower | replace " " "" -}}
{{- $number := regexFind "^[0-9.]+" $size -}}
{{- $unit := trimPrefix $number $size | trimSuffix "b" -}}
{{- $units := dict "" 1 "k" 1000 "ki" 1024 "m" 1000000 "mi" 1048576 "g" 1000000000 "gi" 1073741824 "t" 1000000000000 "ti" 1099511627776 "p" 1000000000000000 "pi" 1125899906842624 -}}
{{- if or (not $number) (not (hasKey $units $unit)) }}{{ fail (printf "%q is not a size such as 512MiB" (toString .)) }}{{ end -}}
{{- printf "%.0f" (mulf (float64 $number) (get $units $unit)) }}
{{- end }}

{{/* A duration such as 1m30s in seconds, rounded up. */}}
{{- define "kubeagents.seconds" -}}
{{- $epoch := toDate "2006-01-02" "2000-01-01" -}}
{{- $end := mustDateModify (toString .) $epoch -}}
{{- $end = mustDateModify "999ms" $end -}}
{{- sub ($end | unixEpoch | int64) ($epoch | unixEpoch | int64) }}
{{- end }}

{{/* The seconds for which a server goes on before it is asked to stop. As other parts of a Pod, it depends on nats.url and
not on replicaCount, so that a change of their number restarts no server. */}}
{{- define "kubeagents.preStopSleepSeconds" -}}
{{- if kindIs "invalid" .Values.preStopSleepSeconds }}{{ ternary 5 0 (not (empty .Values.nats.url)) }}{{ else }}{{ int64 .Values.preStopSleepSeconds }}{{ end }}
{{- end }}

{{/* The seconds that the server has to stop. */}}
{{- define "kubeagents.gracePeriod" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds }}
{{- add (include "kubeagents.seconds" (.Values.settings.SHUTDOWN_TIMEOUT | default "10s") | int64) (include "kubeagents.preStopSleepSeconds" . | int64) 15 }}
{{- else }}
{{- int64 .Values.terminationGracePeriodSeconds }}
{{- end }}
{{- end }}

{{/* Not empty if there is a PodDisruptionBudget. */}}
{{- define "kubeagents.hasBudget" -}}
{{- if kindIs "invalid" .Values.podDisruptionBudget.enabled }}{{ if gt (int .Values.replicaCount) 1 }}true{{ end }}{{ else if .Values.podDisruptionBudget.enabled }}true{{ end }}
{{- end }}

{{/* How the servers are spread, or nothing. */}}
{{- define "kubeagents.spread" -}}
{{- $selector := dict "labelSelector" (dict "matchLabels" (include "kubeagents.selectorLabels" (list . "server") | fromYaml)) -}}
{{- $constraints := .Values.topologySpreadConstraints -}}
{{- if and (not $constraints) .Values.nats.url -}}
{{- $constraints = list -}}
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" -}}
{{- $constraints = append $constraints (dict "maxSkew" 1 "topologyKey" . "whenUnsatisfiable" "ScheduleAnyway") -}}
{{- end -}}
{{- end -}}
{{- range $constraints }}
- {{ mustMerge (deepCopy .) (ternary dict $selector (hasKey . "labelSelector")) | toYaml | nindent 2 | trim }}
{{- end }}
{{- end }}

{{/* The settings about NATS, by name. */}}
{{- define "kubeagents.natsSettings" -}}
{{- with .Values.nats -}}
{{- $settings := dict "NATS_URL" .url "NATS_STREAM" .stream "NATS_REPLICAS" (toString .replicas) "NATS_STALE_AFTER" .staleAfter -}}
{{- with .monitorUrl }}{{ $_ := set $settings "NATS_MONITOR_URL" . }}{{ end -}}
{{- with .user.name }}{{ $_ := set $settings "NATS_USER" . }}{{ end -}}
{{- range $setting, $from := dict "NATS_PASSWORD_FILE" "user" "NATS_CREDS_FILE" "creds" "NATS_NKEY_FILE" "nkey" "NATS_CA_FILE" "ca" -}}
{{- $source := get $.Values.nats $from -}}
{{- if $source.existingSecret }}{{ $_ := set $settings $setting (printf "/etc/kubeagents/nats-%s/%s" $from $source.key) }}{{ end -}}
{{- end -}}
{{- if .tls.existingSecret -}}
{{- $_ := set $settings "NATS_CERT_FILE" "/etc/kubeagents/nats-tls/tls.crt" }}{{ $_ := set $settings "NATS_KEY_FILE" "/etc/kubeagents/nats-tls/tls.key" -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end -}}
{{- end }}

{{/* The ports of the addresses in a list that is separated by commas, as numbers with commas between. */}}
{{- define "kubeagents.portsOf" -}}
{{- $ports := list -}}
{{- range splitList "," . -}}
{{- $scheme := regexFind "^[a-z]+" (trim .) -}}
{{- $port := regexFind ":[0-9]+/?$" . | trimAll ":/" | default (get (dict "http" "80" "https" "443") $scheme) | default "4222" -}}
{{- $ports = append $ports $port -}}
{{- end -}}
{{- $ports | uniq | join "," -}}
{{- end }}

{{/* A storage class's line, or nothing. */}}
{{- define "kubeagents.storageClass" -}}
{{- if eq . "-" -}}
storageClassName: ""
{{- else if . -}}
storageClassName: {{ . | quote }}
{{- end }}
{{- end }}

{{- define "kubeagents.backupClaim" -}}
{{- .Values.backup.persistence.existingClaim | default (printf "%s-backup" (include "kubeagents.fullname" .)) }}
{{- end }}

{{/* Not empty if the chart's own clients need an authority: for the server's own TLS, or for that of internalURL. */}}
{{- define "kubeagents.hasCA" -}}
{{- .Values.tls.ca.existingSecret | default .Values.tls.existingSecret }}
{{- end }}

{{/* The volume with the authority that clients of the server trust. The certificates in SSL_CERT_DIR add to those in the
image. The key is optional: a certificate of a public authority has none. */}}
{{- define "kubeagents.caVolume" -}}
- name: ca
  secret:
    secretName: {{ include "kubeagents.hasCA" . | quote }}
    optional: true
    defaultMode: 0440
    items:
      - key: {{ .Values.tls.ca.key | quote }}
        path: ca.crt
{{- end }}

{{/* The server's volumes, except one that the StatefulSet makes. */}}
{{- define "kubeagents.volumes" -}}
{{- if not .Values.persistence.enabled }}
- name: data
  emptyDir: {}
{{- else if .Values.persistence.existingClaim }}
- name: data
  persistentVolumeClaim:
    claimName: {{ .Values.persistence.existingClaim | quote }}
{{- end }}
{{- if .Values.tokens.existingSecret }}
- name: tokens
  secret:
    secretName: {{ .Values.tokens.existingSecret | quote }}
    defaultMode: 0440
{{- end }}
{{- if .Values.tls.existingSecret }}
- name: tls
  secret:
    secretName: {{ .Values.tls.existingSecret | quote }}
    defaultMode: 0440
{{- end }}
{{- if .Values.tls.clientCA.existingSecret }}
- name: client-ca
  secret:
    secretName: {{ .Values.tls.clientCA.existingSecret | quote }}
    defaultMode: 0440
    items:
      - key: {{ .Values.tls.clientCA.key | quote }}
        path: {{ .Values.tls.clientCA.key | quote }}
{{- end }}
{{- if .Values.notify.existingSecret }}
- name: notify
  secret:
    secretName: {{ .Values.notify.existingSecret | quote }}
    defaultMode: 0440
{{- else if or .Values.notify.existingConfigMap .Values.notify.rules }}
- name: notify
  configMap:
    name: {{ .Values.notify.existingConfigMap | default (printf "%s-notify" (include "kubeagents.fullname" .)) | quote }}
{{- end }}
{{- if .Values.nats.url }}
{{- range $from := list "user" "creds" "nkey" "ca" "tls" }}
{{- with get $.Values.nats $from }}{{ if .existingSecret }}
- name: nats-{{ $from }}
  secret:
    secretName: {{ .existingSecret | quote }}
    defaultMode: 0440
    {{- if .key }}
    items:
      - key: {{ .key | quote }}
        path: {{ .key | quote }}
    {{- end }}
{{- end }}{{ end }}
{{- end }}
{{- end }}
{{- if .Values.restore.from }}
- name: backups
  persistentVolumeClaim:
    claimName: {{ .Values.restore.existingClaim | default (include "kubeagents.backupClaim" .) | quote }}
{{- end }}
{{- with .Values.extraVolumes }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{/* What would not run, with what to do about it. */}}
{{- define "kubeagents.validate" -}}
{{- $problems := list -}}
{{- $images := dict "image" .Values.image -}}
{{- if .Values.watcher.enabled }}{{ $_ := set $images "watcher.image" .Values.watcher.image }}{{ end }}
{{- range $name, $image := $images }}
{{- if not $image.repository }}{{ $problems = append $problems (printf "%s.repository is not set. The project publishes no image yet: build it (make image), copy it to your registry, and name it here" $name) }}{{ end }}
{{- end }}
{{- $own := dict "PORT" "service.port" "GOMEMLIMIT" "resources.limits.memory" "HOST" "allowAnyone" "DATA_DIR" "persistence" "TOKENS_FILE" "tokens.existingSecret"
  "TLS_CERT_FILE" "tls.existingSecret" "TLS_KEY_FILE" "tls.existingSecret" "TLS_CLIENT_CA_FILE" "tls.clientCA.existingSecret"
  "NATS_URL" "nats.url" "NATS_STREAM" "nats.stream" "NATS_REPLICAS" "nats.replicas" "NATS_MONITOR_URL" "nats.monitorUrl" "NATS_STALE_AFTER" "nats.staleAfter"
  "NATS_USER" "nats.user" "NATS_PASSWORD_FILE" "nats.user" "NATS_CREDS_FILE" "nats.creds" "NATS_NKEY_FILE" "nats.nkey" "NATS_CA_FILE" "nats.ca"
  "NATS_CERT_FILE" "nats.tls" "NATS_KEY_FILE" "nats.tls" "SERVER_NAME" "nats.url"
  "NOTIFY_FILE" "notify" "WEBHOOK_SECRET" "webhookSecret.existingSecret" "VAPID_PRIVATE_KEY" "vapid.existingSecret" -}}
{{- range $name, $value := .Values.settings }}
{{- if and (hasKey $own $name) (not (kindIs "invalid" $value)) }}{{- $problems = append $problems (printf "settings.%s is set by the chart: use %s instead" $name (get $own $name)) }}{{ end }}
{{- end }}
{{- if and .Values.allowAnyone .Values.tokens.existingSecret }}
{{- $problems = append $problems "allowAnyone and tokens.existingSecret exclude each other: set one of them" }}
{{- end }}
{{- if not (or .Values.allowAnyone .Values.tokens.existingSecret) }}
{{- $problems = append $problems "there are no tokens, so anyone in the cluster could report, read and remove. Set tokens.existingSecret to a Secret with a tokens file, or allowAnyone=true to allow it" }}
{{- end }}
{{- if and .Values.tls.clientCA.existingSecret (not .Values.tls.existingSecret) }}
{{- $problems = append $problems "tls.clientCA.existingSecret needs tls.existingSecret" }}
{{- end }}
{{- $sources := list }}
{{- range $name := list "existingSecret" "existingConfigMap" "rules" }}{{ if get $.Values.notify $name }}{{ $sources = append $sources (printf "notify.%s" $name) }}{{ end }}{{ end }}
{{- if gt (len $sources) 1 }}{{- $problems = append $problems (printf "%s exclude each other: set one of them" (join " and " $sources)) }}{{ end }}
{{- $several := gt (int .Values.replicaCount) 1 }}
{{- if and $several (not .Values.nats.url) }}
{{- $problems = append $problems (printf "replicaCount is %d, but several servers need NATS: set nats.url, or replicaCount=1" (int .Values.replicaCount)) }}
{{- end }}
{{- if contains "@" .Values.nats.url }}
{{- $problems = append $problems "nats.url contains a user or a password: remove it, and set nats.user, nats.creds or nats.nkey, which name a Secret" }}
{{- end }}
{{- $credentials := list }}
{{- range list "user" "creds" "nkey" "ca" "tls" }}
{{- if (get $.Values.nats .).existingSecret }}
{{- if has . (list "user" "creds" "nkey") }}{{ $credentials = append $credentials (printf "nats.%s" .) }}{{ end }}
{{- if not $.Values.nats.url }}{{ $problems = append $problems (printf "nats.%s.existingSecret needs nats.url" .) }}{{ end }}
{{- end }}
{{- end }}
{{- if gt (len $credentials) 1 }}{{ $problems = append $problems (printf "%s exclude each other: set one of them" (join " and " $credentials)) }}{{ end }}
{{- if ne (empty .Values.nats.user.name) (empty .Values.nats.user.existingSecret) }}
{{- $problems = append $problems "nats.user.name and nats.user.existingSecret belong together: set both, or neither" }}
{{- end }}
{{- if and .Values.nats.url (not .Values.persistence.enabled) }}
{{- $problems = append $problems "nats.url needs persistence.enabled: each server keeps what it has applied of the stream" }}
{{- end }}
{{- if and $several .Values.persistence.existingClaim }}
{{- $problems = append $problems "persistence.existingClaim is one volume, but each of several servers needs its own: leave it empty, or set replicaCount=1" }}
{{- end }}
{{- if and .Values.nats.url .Values.restore.from }}
{{- $problems = append $problems "restore.from and nats.url exclude each other: restore one server without NATS, then remove restore.from, and set nats with a new nats.stream" }}
{{- end }}
{{- with ((.Values.resources).limits).memory }}
{{- $limit := include "kubeagents.bytes" . | int64 }}
{{- $history := $.Values.settings.HISTORY_MAX_BYTES | default "2GiB" }}
{{- $answers := $.Values.settings.ANSWERS_MAX_BYTES | default "64MiB" }}
{{- $bodies := $.Values.settings.BODIES_MAX_BYTES | default "64MiB" }}
{{- $need := add (mul (include "kubeagents.bytes" $history | int64) 2) (include "kubeagents.bytes" $answers | int64) (include "kubeagents.bytes" $bodies | int64) 536870912 }}
{{- if lt $limit $need }}
{{- $problems = append $problems (printf "resources.limits.memory is %v, but HISTORY_MAX_BYTES=%s, ANSWERS_MAX_BYTES=%s and BODIES_MAX_BYTES=%s need %dMi: raise the limit, or lower settings.HISTORY_MAX_BYTES" . (include "kubeagents.setting" $history) (include "kubeagents.setting" $answers) (include "kubeagents.setting" $bodies) (div (add $need 1048575) 1048576)) }}
{{- end }}
{{- end }}
{{- if le (include "kubeagents.gracePeriod" . | int64) (add (include "kubeagents.seconds" (.Values.settings.SHUTDOWN_TIMEOUT | default "10s") | int64) (include "kubeagents.preStopSleepSeconds" . | int64)) }}
{{- $problems = append $problems (printf "terminationGracePeriodSeconds is %v: it must be longer than settings.SHUTDOWN_TIMEOUT and preStopSleepSeconds together" .Values.terminationGracePeriodSeconds) }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) }}{{- $problems = append $problems "ingress.host is not set" }}{{ end }}
{{- if and .Values.gateway.enabled (not .Values.gateway.host) }}{{- $problems = append $problems "gateway.host is not set" }}{{ end }}
{{- if and .Values.gateway.enabled (not .Values.gateway.parentRefs) }}{{- $problems = append $problems "gateway.parentRefs is empty: name the Gateway, such as [{name: public, namespace: gateways}]" }}{{ end }}
{{- if and .Values.gateway.backendTLS.enabled (not .Values.tls.existingSecret) }}{{- $problems = append $problems "gateway.backendTLS needs tls.existingSecret: the server has no TLS" }}{{ end }}
{{- if and (include "kubeagents.hasBudget" .) (not (kindIs "invalid" .Values.podDisruptionBudget.minAvailable)) (not (kindIs "invalid" .Values.podDisruptionBudget.maxUnavailable)) }}
{{- $problems = append $problems "podDisruptionBudget.minAvailable and maxUnavailable exclude each other: set maxUnavailable to null" }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled .Values.tokens.existingSecret (not .Values.serviceMonitor.token.existingSecret) (ne (toString .Values.settings.METRICS_PUBLIC) "true") }}
{{- $problems = append $problems "serviceMonitor.token.existingSecret is not set: Prometheus needs a token with the scope read, or set settings.METRICS_PUBLIC=true" }}
{{- end }}
{{- if .Values.backup.enabled }}
{{- if .Values.allowAnyone }}{{- $problems = append $problems "backup.enabled needs tokens: a server without tokens sends no backups" }}{{ end }}
{{- if not .Values.backup.token.existingSecret }}{{- $problems = append $problems "backup.token.existingSecret is not set: the backup needs a token with the scope admin" }}{{ end }}
{{- if .Values.tls.clientCA.existingSecret }}{{- $problems = append $problems "backup.enabled and tls.clientCA exclude each other: kubeagents backup has no client certificate" }}{{ end }}
{{- end }}
{{- if and .Values.restore.from (not .Values.persistence.enabled) }}{{- $problems = append $problems "restore.from needs persistence.enabled" }}{{ end }}
{{- if and .Values.restore.from (not .Values.restore.existingClaim) (not .Values.backup.enabled) }}
{{- $problems = append $problems "restore.from needs a claim with backups: set restore.existingClaim, or backup.enabled" }}
{{- end }}
{{- if .Values.watcher.enabled }}
{{- if and .Values.tokens.existingSecret (not .Values.watcher.token.existingSecret) }}{{- $problems = append $problems "watcher.token.existingSecret is not set: the watcher needs a token with the scope report" }}{{ end }}
{{- if .Values.tls.clientCA.existingSecret }}{{- $problems = append $problems "watcher.enabled and tls.clientCA exclude each other: the watcher has no client certificate" }}{{ end }}
{{- end }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" (include "kubeagents.fullname" .)) }}
{{- $problems = append $problems (printf "the objects would be named %s, but a Service's name begins with a letter, and has no dots: set fullnameOverride" (include "kubeagents.fullname" .)) }}
{{- end }}
{{- $ofWatcher := dict "PORT" "" "POD_NAME" "" "POD_NAMESPACE" "" "KUBEAGENTS_SERVER" "internalURL" "NAMESPACES" "watcher.namespaces" "KUBEAGENTS_TOKEN_FILE" "watcher.token" -}}
{{- range list (list "" .Values.extraEnv (omit $own "WEBHOOK_SECRET" "VAPID_PRIVATE_KEY") .Values.settings) (list "watcher." .Values.watcher.extraEnv $ofWatcher .Values.watcher.settings) }}
{{- $prefix := index . 0 }}{{ $set := index . 2 }}{{ $settings := index . 3 | default dict }}
{{- range index . 1 }}
{{- if hasKey $set .name }}{{ $problems = append $problems (printf "%sextraEnv sets %s, which the chart sets%s" $prefix .name (get $set .name | default "" | printf ": use %s instead" | trimSuffix ": use  instead")) }}
{{- else if not (kindIs "invalid" (index $settings .name)) }}{{ $problems = append $problems (printf "%sextraEnv and %ssettings both set %s: remove one of them" $prefix $prefix .name) }}
{{- end }}
{{- end }}
{{- end }}
{{- with $problems }}{{ fail (printf "\n\n- %s\n" (join "\n- " .)) }}{{ end }}
{{- end }}

{{/* A change of what is installed that would lose state, with what to do first. Where Helm only renders, nothing is known of
what is installed. */}}
{{- define "kubeagents.validateChange" -}}
{{- $installed := lookup "apps/v1" "StatefulSet" .Release.Namespace (include "kubeagents.fullname" .) -}}
{{- if $installed -}}
{{- $before := dict -}}
{{- range $installed.spec.template.spec.containers }}{{ if eq .name "kubeagents" }}
{{- range .env }}{{ $_ := set $before .name (.value | default "") }}{{ end -}}
{{- end }}{{ end -}}
{{- $replicas := int $installed.spec.replicas -}}
{{- $wanted := int .Values.replicaCount -}}
{{- $status := $installed.status | default dict -}}
{{- $rolledOut := and (eq (int $status.readyReplicas) $replicas) (eq (int $status.replicas) $replicas) (eq (toString $status.currentRevision) (toString $status.updateRevision)) (eq (int64 $status.observedGeneration) (int64 $installed.metadata.generation)) -}}
{{- $problem := "" -}}
{{- if and (gt $wanted 1) (not $before.NATS_URL) -}}
{{- $problem = printf "the server has run without NATS: upgrade with nats.url and replicaCount=1 first, so that its state becomes the beginning of the stream, and with replicaCount=%d once it is ready" $wanted -}}
{{- else if and (gt $wanted 1) (eq $replicas 1) (not $rolledOut) -}}
{{- $problem = "the server is not ready: its state may not be in the stream yet. Wait for it (kubectl rollout status), and upgrade again" -}}
{{- else if and $before.NATS_URL (not .Values.nats.url) (gt $replicas 1) -}}
{{- $problem = printf "%d servers share a stream: upgrade with the same nats and replicaCount=1 first, and without nats once that one is ready" $replicas -}}
{{- else if and $before.NATS_URL (not .Values.nats.url) (not $rolledOut) -}}
{{- $problem = "the server is not ready: it may not have caught up with the stream. Wait for it (kubectl rollout status), and upgrade again" -}}
{{- else if and $before.NATS_URL .Values.nats.url (ne $before.NATS_STREAM .Values.nats.stream) -}}
{{- $problem = printf "the servers' state belongs to the stream %s: to use another one, go back to one server without NATS first" $before.NATS_STREAM -}}
{{- end -}}
{{- with $problem }}{{ fail (printf "\n\n- %s. See docs/kubernetes.md\n" .) }}{{ end -}}
{{- end -}}
{{- end }}
