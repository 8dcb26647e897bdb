{{- define "atoll-edge.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "atoll-edge.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "atoll-edge.selectorLabels" -}}
app.kubernetes.io/name: {{ include "atoll-edge.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "atoll-edge.labels" -}}
{{ include "atoll-edge.selectorLabels" . }}
app.kubernetes.io/component: edge
app.kubernetes.io/part-of: atoll
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "atoll-edge.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}{{ printf "%s/%s@%s" $image.registry $image.repository $image.digest }}
{{- else -}}{{ printf "%s/%s:%s" $image.registry $image.repository (default .Chart.AppVersion $image.tag) }}{{- end -}}
{{- end -}}

{{/* The ports of all streams, as the agent counts them: a JSON list of {name, port}. */}}
{{- define "atoll-edge.streamPorts" -}}
{{- $streams := .Values.config.streams | default dict -}}
{{- $cameras := .Values.config.cameras | default (list (.Values.config.camera | default dict)) -}}
{{- $ports := list -}}
{{- range $index, $camera := $cameras -}}
{{- $suffix := ternary "" (printf "-%d" (add1 $index)) (eq $index 0) -}}
{{- $raw := $camera.rawPort | default (add ($streams.rawPort | default 1181) (mul 2 $index)) -}}
{{- $annotated := $camera.annotatedPort | default (add ($streams.annotatedPort | default 1182) (mul 2 $index)) -}}
{{- $ports = append $ports (dict "name" (printf "raw%s" $suffix) "port" (int $raw)) -}}
{{- $ports = append $ports (dict "name" (printf "annotated%s" $suffix) "port" (int $annotated)) -}}
{{- end -}}
{{- toJson $ports -}}
{{- end -}}

{{/* The agent's config.yaml: what the user gave, with what the chart knows. */}}
{{- define "atoll-edge.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $camera := $config.camera | default dict -}}
{{- if not $camera.path -}}{{- $camera = omit $camera "path" -}}{{- end -}}
{{- if $config.cameras -}}
{{- if $camera -}}{{- fail "config.camera and config.cameras exclude each other: move the settings of config.camera into the list" -}}{{- end -}}
{{- $_ := unset $config "camera" -}}
{{- else -}}
{{- $_ := unset $config "cameras" -}}
{{- $_ := set $config "camera" $camera -}}
{{- end -}}
{{- if and (eq .Values.mode "lab") (not $config.device) -}}
{{- /* A pod's own name changes with every restart; a robot's pod has its node's. */ -}}
{{- $_ := set $config "device" (include "atoll-edge.fullname" .) -}}
{{- end -}}
{{- $_ := set $config "stateDir" "/var/lib/atoll-edge" -}}
{{- if .Values.tokenSecretName -}}
{{- $_ := set $config "http" (merge (dict "tokenFile" "/run/atoll-edge/token/token") ($config.http | default dict)) -}}
{{- end -}}
{{- if .Values.model.name -}}
{{- $store := dict "type" "s3" "bucket" .Values.store.bucket "prefix" .Values.store.prefix "addressingStyle" .Values.store.addressingStyle -}}
{{- if .Values.store.endpoint -}}{{- $_ := set $store "endpoint" .Values.store.endpoint -}}{{- end -}}
{{- if .Values.store.region -}}{{- $_ := set $store "region" .Values.store.region -}}{{- end -}}
{{- if .Values.store.secretName -}}{{- $_ := set $store "credentialsDir" "/run/atoll-edge/credentials" -}}{{- end -}}
{{- if .Values.store.caConfigMap -}}{{- $_ := set $store "caBundlePath" "/run/atoll-edge/ca/ca.crt" -}}{{- end -}}
{{- $keys := list -}}
{{- range $index, $_ := .Values.model.publicKeys -}}{{- $keys = append $keys (printf "/etc/atoll-edge/key-%d.pem" $index) -}}{{- end -}}
{{- $model := pick .Values.model "namespace" "name" "channel" "verify" "pollSeconds" "matchLock" -}}
{{- $_ := set $model "store" $store -}}
{{- $_ := set $model "publicKeyFiles" $keys -}}
{{- $_ := set $config "model" $model -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}
