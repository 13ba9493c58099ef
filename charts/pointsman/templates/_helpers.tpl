{{/* The chart's name, shortened to what a label may hold. */}}
{{- define "pointsman.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* The prefix of all names; short enough for the longest suffix. */}}
{{- define "pointsman.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "pointsman.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "pointsman.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* The name of objects that belong to no namespace: two releases of one name may live in two namespaces. */}}
{{- define "pointsman.clusterName" -}}
{{- printf "%s-%s" (include "pointsman.fullname" .) .Release.Namespace | trimSuffix "-" }}
{{- end }}

{{/* Labels by which pods are found: (dict "root" $ "component" "router"). They never change in a release's life. */}}
{{- define "pointsman.selectorLabels" -}}
app.kubernetes.io/name: {{ include "pointsman.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Labels of every object: (dict "root" $ "component" "router"); without a component for what belongs to all. */}}
{{- define "pointsman.labels" -}}
app.kubernetes.io/name: {{ include "pointsman.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels, and annotations where there are any: (dict "root" $ "component" "router" "annotations" (dict ...) "labels" (dict ...)). */}}
{{- define "pointsman.meta" -}}
labels:
  {{- include "pointsman.labels" . | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (default (dict) .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* An image's reference: (dict "image" .Values.image "tag" "default tag"). */}}
{{- define "pointsman.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .tag }}
{{- end }}
{{- end }}

{{/* Where a component's values are: (dict "component" "policy-service"). */}}
{{- define "pointsman.key" -}}
{{- eq .component "policy-service" | ternary "policyService" .component }}
{{- end }}

{{/* The components that have pods, as JSON. */}}
{{- define "pointsman.components" -}}
{{- $found := list "router" "operator" }}
{{- if .Values.policyService.enabled }}{{ $found = append $found "policy-service" }}{{ end }}
{{- $found | toJson }}
{{- end }}

{{/* The name of a part's service account: (dict "root" $ "component" "router"). */}}
{{- define "pointsman.serviceAccountName" -}}
{{- $key := include "pointsman.key" . }}
{{- $account := (index .root.Values $key).serviceAccount }}
{{- if $account.create }}
{{- $account.name | default (printf "%s-%s" (include "pointsman.fullname" .root) .component) }}
{{- else }}
{{- required (printf "%s.serviceAccount.name: name your account, or let serviceAccount.create be true" $key) $account.name }}
{{- end }}
{{- end }}

{{/* The pod's own address as part of "address:port". */}}
{{- define "pointsman.podAddress" -}}
{{- if eq .Values.network.ipFamily "IPv6" }}[$(POD_IP)]{{ else }}$(POD_IP){{ end }}
{{- end }}

{{- define "pointsman.podAddressEnv" -}}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
{{- end }}

{{/* Of a pod: the restricted Pod Security Standard. */}}
{{- define "pointsman.podSecurityContext" -}}
runAsNonRoot: true
{{- range $key, $value := .Values.podSecurity }}
{{- if not (kindIs "invalid" $value) }}
{{ $key }}: {{ int64 $value }}
{{- end }}
{{- end }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Of a container: the restricted Pod Security Standard, and nothing to write to but volumes. */}}
{{- define "pointsman.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* What every pod says of where it runs: (dict "root" $ "component" "router"). */}}
{{- define "pointsman.scheduling" -}}
{{- $values := index .root.Values (include "pointsman.key" .) }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml $values.topologySpreadConstraints | nindent 2 }}
{{- else if $values.spreadReplicas }}
topologySpreadConstraints:
  {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - topologyKey: {{ $key }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "pointsman.selectorLabels" $ | nindent 8 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Annotations for a Prometheus that goes by them: (dict "root" $ "port" 9090 "path" "/metrics"). */}}
{{- define "pointsman.scrapeAnnotations" -}}
{{- if .root.Values.monitoring.podAnnotations }}
prometheus.io/scrape: "true"
prometheus.io/port: {{ .port | quote }}
prometheus.io/path: {{ .path | default "/metrics" }}
{{- end }}
{{- end }}

{{/*
Copies an image's compiled kernels to where they can be used; without them they are compiled at the start:
(dict "root" $ "image" .Values.image).
*/}}
{{- define "pointsman.kernelsContainer" -}}
- name: kernels
  image: {{ include "pointsman.image" (dict "image" .image "tag" .root.Chart.AppVersion) }}
  imagePullPolicy: {{ .image.pullPolicy }}
  command: [sh, -c]
  args: ['if [ -d "${POINTSMAN_KERNELS:-}" ]; then cp -R "$POINTSMAN_KERNELS/." /var/cache/pointsman; fi']
  securityContext:
    {{- include "pointsman.securityContext" .root | nindent 4 }}
  resources:
    requests: {cpu: 10m, memory: 16Mi}
    limits: {memory: 128Mi}
  volumeMounts:
    - {name: cache, mountPath: /var/cache/pointsman}
{{- end }}

{{/* Which API versions the cluster has. */}}
{{- define "pointsman.podDisruptionBudgetVersion" -}}
{{- if .Capabilities.APIVersions.Has "policy/v1" }}policy/v1{{ else }}policy/v1beta1{{ end }}
{{- end }}

{{- define "pointsman.autoscalingVersion" -}}
{{- if .Capabilities.APIVersions.Has "autoscaling/v2" }}autoscaling/v2{{ else }}autoscaling/v2beta2{{ end }}
{{- end }}

{{- define "pointsman.peeringName" -}}
{{- .Values.operator.peering | default (include "pointsman.clusterName" .) }}
{{- end }}

{{/* Certificates are needed by the webhook, and by gRPC where it has TLS. */}}
{{- define "pointsman.needsCertificates" -}}
{{- if or .Values.webhook.enabled .Values.router.tls.enabled (include "pointsman.policyServiceTls" .) }}true{{ end }}
{{- end }}

{{/* Whether our policy service is reached over TLS. */}}
{{- define "pointsman.policyServiceTls" -}}
{{- if and .Values.policyService.enabled .Values.policyService.tls.enabled }}true{{ end }}
{{- end }}

{{/* How routers and operator reach the policy service. */}}
{{- define "pointsman.policyServiceArguments" -}}
{{- if .Values.policyService.enabled }}
{{- $host := printf "%s-policy-service.%s.svc" (include "pointsman.fullname" .) .Release.Namespace }}
{{- with .Values.policyService.clusterIP }}
{{- $host = contains ":" . | ternary (printf "[%s]" .) . }}
{{- end }}
- --policy-service={{ $host }}:{{ .Values.policyService.grpcPort }}
{{- if .Values.policyService.tls.enabled }}
- --policy-service-ca=/etc/pointsman/policy-service/ca.crt
- --policy-service-certificate=/etc/pointsman/policy-service/tls.crt
- --policy-service-key=/etc/pointsman/policy-service/tls.key
{{- end }}
{{- end }}
{{- end }}

{{- define "pointsman.policyServiceMount" -}}
{{- if include "pointsman.policyServiceTls" . }}
- {name: policy-service, mountPath: /etc/pointsman/policy-service, readOnly: true}
{{- end }}
{{- end }}

{{- define "pointsman.policyServiceVolume" -}}
{{- if include "pointsman.policyServiceTls" . }}
- name: policy-service
  secret: {secretName: {{ include "pointsman.fullname" . }}-policy-client, defaultMode: 288}
{{- end }}
{{- end }}
