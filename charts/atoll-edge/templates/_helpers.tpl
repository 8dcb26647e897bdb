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

{{/* The agent's config.yaml: what the user gave, with what the chart knows. */}}
{{- define "atoll-edge.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $camera := $config.camera | default dict -}}
{{- if not $camera.path -}}{{- $camera = omit $camera "path" -}}{{- end -}}
{{- $_ := set $config "camera" $camera -}}
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
