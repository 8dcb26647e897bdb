{{- define "atoll.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "atoll.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "atoll.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "atoll.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* Labels of every object. Call with (dict "root" $ "component" "operator"). */ -}}
{{- define "atoll.labels" -}}
{{ include "atoll.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: atoll
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | quote }}
{{- with .root.Values.global.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Selectors can never change, so they hold nothing that might. */ -}}
{{- define "atoll.selectorLabels" -}}
app.kubernetes.io/name: {{ include "atoll.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "atoll.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "atoll.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- /* Every image reference of the chart. Call with (dict "root" $ "image" .Values.image). */ -}}
{{- define "atoll.image" -}}
{{- $registry := default .image.registry .root.Values.global.imageRegistry -}}
{{- $name := ternary (printf "%s/%s" $registry .image.repository) .image.repository (ne $registry "") -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $name .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}
{{- end -}}

{{- /* The stages' images as a TrainingProfile names them. */ -}}
{{- define "atoll.stageImages" -}}
{{- $root := . -}}
{{- $images := dict -}}
{{- range $stage, $image := .Values.images -}}
{{- if $image -}}
{{- $_ := set $images $stage (include "atoll.image" (dict "root" $root "image" $image)) -}}
{{- end -}}
{{- end -}}
{{- if not (hasKey $images "publish") -}}
{{- $_ := set $images "publish" $images.convert -}}
{{- end -}}
{{- toYaml $images -}}
{{- end -}}

{{- define "atoll.storeName" -}}
{{- printf "%s-store" (include "atoll.fullname" .) -}}
{{- end -}}

{{- define "atoll.storeSecretName" -}}
{{- default (include "atoll.storeName" .) .Values.bundledStore.existingSecret -}}
{{- end -}}

{{- define "atoll.storeEndpoint" -}}
{{- printf "http://%s.%s.svc:9000" (include "atoll.storeName" .) .Release.Namespace -}}
{{- end -}}

{{- /* Name of a device reporter's objects; a long one is cut and ends in its hash. Call with (dict "root" $ "store" .store). */ -}}
{{- define "atoll.mirrorName" -}}
{{- $name := printf "%s-mirror-%s" (include "atoll.fullname" .root) .store -}}
{{- if gt (len $name) 63 -}}
{{- printf "%s-%s" ($name | trunc 54 | trimSuffix "-") (sha256sum $name | trunc 8) -}}
{{- else -}}
{{- $name -}}
{{- end -}}
{{- end -}}

{{- define "atoll.dnsEgress" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end -}}

{{- /*
Annotations of an object whose kind this very chart installs. Helm looks every kind up before it creates anything, so at
the first install, when the kind is not there yet, the object has to be a hook; it carries the marks by which the next
upgrade takes it over as an ordinary object.
*/ -}}
{{- define "atoll.ownKind" -}}
{{- if not (.Capabilities.APIVersions.Has "atoll.dev/v1alpha1/TrainingProfile") -}}
annotations:
  helm.sh/hook: post-install,post-upgrade
  helm.sh/hook-delete-policy: before-hook-creation
  meta.helm.sh/release-name: {{ .Release.Name }}
  meta.helm.sh/release-namespace: {{ .Release.Namespace }}
{{- end }}
{{- end -}}

{{- /* Everything but the address at which clouds hand out a node's own credentials. */ -}}
{{- define "atoll.openEgress" -}}
- to:
    - ipBlock:
        cidr: 0.0.0.0/0
        except: [169.254.169.254/32]
    - ipBlock:
        cidr: ::/0
        except: ["fd00:ec2::254/128"]
{{- end -}}

{{- /*
The ports at which the API server itself listens, as far as this cluster tells them: `helm template` asks no cluster, and
an installer who may not make ClusterRoles need not be allowed to read them.
*/ -}}
{{- define "atoll.knownApiServerPorts" -}}
{{- $ports := list -}}
{{- if eq .Values.rbac.scope "cluster" -}}
{{- range (lookup "discovery.k8s.io/v1" "EndpointSlice" "default" "kubernetes").ports -}}
{{- $ports = append $ports (int .port) -}}
{{- end -}}
{{- end -}}
{{- toJson $ports -}}
{{- end -}}

{{- /* A policy sees the port behind the Service, which is the server's own. */ -}}
{{- define "atoll.apiServerEgress" -}}
{{- $ports := list -}}
{{- range (concat .Values.networkPolicy.apiServerPorts (include "atoll.knownApiServerPorts" . | fromJsonArray)) -}}
{{- $ports = append $ports (int .) -}}
{{- end -}}
- ports:
    {{- range ($ports | uniq) }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{- end -}}

{{- /* What keeps the bundled store's claim from being bound in this cluster; empty: nothing, or there is no cluster to ask. */ -}}
{{- define "atoll.storeVolumeProblem" -}}
{{- $wanted := .Values.bundledStore.persistence.storageClass -}}
{{- $asked := and (eq .Values.rbac.scope "cluster") (lookup "v1" "Namespace" "" "kube-system") -}}
{{- if and $asked .Values.bundledStore.enabled .Values.bundledStore.persistence.enabled -}}
{{- $classes := dict -}}
{{- range (lookup "storage.k8s.io/v1" "StorageClass" "" "").items -}}
{{- $_ := set $classes .metadata.name (eq "true" (dig "annotations" "storageclass.kubernetes.io/is-default-class" "false" .metadata)) -}}
{{- end -}}
{{- $bindable := false -}}
{{- range (lookup "v1" "PersistentVolume" "" "").items -}}
{{- if eq (default "" .spec.storageClassName) $wanted -}}{{- $bindable = true -}}{{- end -}}
{{- end -}}
{{- $served := ternary (hasKey $classes $wanted) (has true (values $classes)) (ne $wanted "") -}}
{{- if not (or $served $bindable) -}}
{{- $there := ternary "it has none" (printf "it has %s" (keys $classes | sortAlpha | join ", ")) (empty $classes) -}}
{{- if $wanted -}}
{{- printf "bundledStore.persistence.storageClass is %s, and this cluster has no storage class of that name (%s)" $wanted $there -}}
{{- else -}}
{{- printf "this cluster has no default storage class (%s), so the bundled store gets no volume" $there -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
