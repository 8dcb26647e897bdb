{{/* The pod of both modes. One agent, one store on disk, its cameras: never two pods at once. */}}
{{- define "atoll-edge.pod" -}}
{{- $robot := eq .Values.mode "robot" -}}
{{- /* The device cgroup of an unprivileged container refuses the host's cameras, whatever is mounted. */ -}}
{{- $privileged := and $robot (or (eq .Values.usb.mode "privileged") (not (empty .Values.cameraDevices))) -}}
{{- /* Under disk or memory pressure the kubelet evicts every other pod, and then deletes its image. */ -}}
{{- $priority := default (ternary "system-node-critical" "" $robot) .Values.priorityClassName -}}
metadata:
  labels: {{- include "atoll-edge.labels" . | nindent 4 }}
  annotations:
    checksum/config: {{ include "atoll-edge.config" . | sha256sum }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- if $robot }}
  # The field opens 1180-1190 and 5800-5810 only; NodePorts begin at 30000.
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  {{- end }}
  terminationGracePeriodSeconds: 3
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $priority }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- if $robot }}
    # The host's folder and devices belong to root.
    runAsUser: 0
    {{- else }}
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    {{- end }}
    seccompProfile: { type: RuntimeDefault }
  containers:
    - name: edge
      image: {{ include "atoll-edge.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [python, -m, atoll_edge.cli, run, --config, /etc/atoll-edge/config.yaml]
      {{- if $privileged }}
      # Its default lies in /dev, which is the host's own here.
      terminationMessagePath: /tmp/termination-log
      {{- end }}
      ports:
        {{- range include "atoll-edge.streamPorts" . | fromJsonArray }}
        - { name: {{ .name }}, containerPort: {{ int .port }} }
        {{- end }}
        - { name: http, containerPort: 5808 }
      startupProbe:
        httpGet: { path: /startupz, port: http }
        periodSeconds: 2
        failureThreshold: {{ div (int .Values.startupSeconds) 2 }}
      livenessProbe:
        httpGet: { path: /livez, port: http }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      readinessProbe:
        httpGet: { path: /readyz, port: http }
        periodSeconds: 5
        timeoutSeconds: 5
      securityContext:
        {{- if $privileged }}
        privileged: true
        {{- else }}
        allowPrivilegeEscalation: false
        capabilities: { drop: [ALL] }
        {{- end }}
        readOnlyRootFilesystem: true
      {{- $resources := deepCopy .Values.resources }}
      {{- if and $robot (eq .Values.usb.mode "device-plugin") }}
      {{- $_ := set $resources "limits" (merge (dict .Values.usb.resourceName 1) ($resources.limits | default dict)) }}
      {{- end }}
      resources: {{- toYaml $resources | nindent 8 }}
      volumeMounts:
        - { name: config, mountPath: /etc/atoll-edge, readOnly: true }
        - { name: state, mountPath: /var/lib/atoll-edge }
        - { name: tmp, mountPath: /tmp }
        {{- if .Values.store.secretName }}
        - { name: credentials, mountPath: /run/atoll-edge/credentials, readOnly: true }
        {{- end }}
        {{- if .Values.store.caConfigMap }}
        - { name: ca, mountPath: /run/atoll-edge/ca, readOnly: true }
        {{- end }}
        {{- if .Values.tokenSecretName }}
        - { name: token, mountPath: /run/atoll-edge/token, readOnly: true }
        {{- end }}
        {{- if $robot }}
        - { name: boot, mountPath: /boot/firmware, readOnly: true }
        {{- if $privileged }}
        - { name: dev, mountPath: /dev }
        {{- end }}
        {{- else if .Values.picturesConfigMap }}
        - { name: pictures, mountPath: /pictures, readOnly: true }
        {{- end }}
  volumes:
    - { name: config, configMap: { name: {{ include "atoll-edge.fullname" . }} } }
    {{- if $robot }}
    - { name: state, hostPath: { path: {{ .Values.stateHostPath }}, type: DirectoryOrCreate } }
    - { name: boot, hostPath: { path: {{ .Values.bootPath }} } }
    {{- if $privileged }}
    # The whole folder: a pod that mounts a device which is not there does not start, and one that is plugged in later
    # would not appear in it.
    - { name: dev, hostPath: { path: /dev, type: Directory } }
    {{- end }}
    {{- else }}
    {{- if .Values.persistence.enabled }}
    - { name: state, persistentVolumeClaim: { claimName: {{ include "atoll-edge.fullname" . }} } }
    {{- else }}
    - { name: state, emptyDir: {} }
    {{- end }}
    {{- if .Values.picturesConfigMap }}
    - { name: pictures, configMap: { name: {{ .Values.picturesConfigMap }} } }
    {{- end }}
    {{- end }}
    - { name: tmp, emptyDir: {} }
    {{- if .Values.store.secretName }}
    - { name: credentials, secret: { secretName: {{ .Values.store.secretName }} } }
    {{- end }}
    {{- if .Values.store.caConfigMap }}
    - { name: ca, configMap: { name: {{ .Values.store.caConfigMap }} } }
    {{- end }}
    {{- if .Values.tokenSecretName }}
    - { name: token, secret: { secretName: {{ .Values.tokenSecretName }} } }
    {{- end }}
{{- end -}}
