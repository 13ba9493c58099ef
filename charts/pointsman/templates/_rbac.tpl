{{/* What both parts read. Nodes are not here: they belong to no namespace. */}}
{{- define "pointsman.readRules" -}}
- apiGroups: [pointsman.io]
  resources: [routerpolicies]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [inference.networking.k8s.io, inference.networking.x-k8s.io]
  resources: [inferencepools]
  verbs: [list, watch]
{{- end }}

{{/* What the router may do in a namespace that it watches. */}}
{{- define "pointsman.rules.router" -}}
{{- include "pointsman.readRules" . }}
{{- end }}

{{/* What the operator may do in a namespace that it watches. */}}
{{- define "pointsman.rules.operator" -}}
{{- include "pointsman.readRules" . }}
- apiGroups: [pointsman.io]
  resources: [routerpolicies/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
- apiGroups: [kopf.dev]
  resources: [{{ ternary "kopfpeerings" "clusterkopfpeerings" (not (empty .Values.watch.namespaces)) }}]
  verbs: [list, watch]
- apiGroups: [kopf.dev]
  resources: [{{ ternary "kopfpeerings" "clusterkopfpeerings" (not (empty .Values.watch.namespaces)) }}]
  resourceNames: [{{ include "pointsman.peeringName" . }}]
  verbs: [get, patch]
{{- end }}

{{/* What belongs to no namespace: a node's labels name the GPU of its pods. */}}
{{- define "pointsman.clusterRules" -}}
- apiGroups: [""]
  resources: [nodes]
  verbs: [list, watch]
{{- end }}

{{/* A role and its binding: (dict "root" $ "component" "router" "name" "..." "namespace" "" "rules" "..."); without a namespace for the cluster. */}}
{{- define "pointsman.grant" -}}
{{- $kind := ternary "ClusterRole" "Role" (empty .namespace) }}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  {{- include "pointsman.meta" . | nindent 2 }}
rules:
  {{- .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}Binding
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  {{- include "pointsman.meta" . | nindent 2 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: {{ $kind }}, name: {{ .name }}}
subjects:
  - {kind: ServiceAccount, name: {{ include "pointsman.serviceAccountName" . }}, namespace: {{ .root.Release.Namespace }}}
{{- end }}

{{/* What the operator may do in the release's own namespace: find the routers, wherever it watches. */}}
{{- define "pointsman.rules.routerPods" -}}
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
{{- end }}
