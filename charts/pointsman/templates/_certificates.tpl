{{/*
The chart's own CA and what it signs. A CA is made once: later renderings find its Secret in the cluster. Where nothing
can be looked up (helm template), every rendering makes a new one, and cert-manager is the better choice.
The result is kept in the root context, so that all templates of one rendering use the same CA.
*/}}
{{- define "pointsman.ca" -}}
{{- if not (hasKey . "pointsmanCa") }}
{{- $name := printf "%s-ca" (include "pointsman.fullname" .) }}
{{- $kept := lookup "v1" "Secret" .Release.Namespace $name }}
{{- if and $kept (hasKey (default (dict) $kept.data) "tls.key") }}
{{- $_ := set . "pointsmanCa" (buildCustomCert (index $kept.data "tls.crt") (index $kept.data "tls.key")) }}
{{- else }}
{{- $_ := set . "pointsmanCa" (genCA $name (int .Values.certificates.caDays)) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The names by which a Service is called, as JSON: (dict "root" $ "service" "name"). */}}
{{- define "pointsman.serviceNames" -}}
{{- $namespace := .root.Release.Namespace }}
{{- list .service (printf "%s.%s" .service $namespace) (printf "%s.%s.svc" .service $namespace) (printf "%s.%s.svc.cluster.local" .service $namespace) | toJson }}
{{- end }}

{{/*
A Secret with a leaf certificate: (dict "root" $ "component" "router" "name" "..." "names" (list ...)), and where it is
called by them, "addresses" (list ...).
*/}}
{{- define "pointsman.certificateSecret" -}}
{{- include "pointsman.ca" .root }}
{{- $ca := .root.pointsmanCa }}
{{- $leaf := genSignedCert (first .names) (default (list) .addresses) .names (int .root.Values.certificates.leafDays) $ca }}
apiVersion: v1
kind: Secret
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  {{- include "pointsman.meta" . | nindent 2 }}
type: kubernetes.io/tls
data:
  ca.crt: {{ $ca.Cert | b64enc }}
  tls.crt: {{ $leaf.Cert | b64enc }}
  tls.key: {{ $leaf.Key | b64enc }}
{{- end }}

{{/* The same by cert-manager. */}}
{{- define "pointsman.certificateRequest" -}}
{{- $manager := .root.Values.certificates.certManager }}
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  {{- include "pointsman.meta" . | nindent 2 }}
spec:
  secretName: {{ .name }}
  duration: {{ $manager.duration }}
  renewBefore: {{ $manager.renewBefore }}
  privateKey: {algorithm: ECDSA, size: 256, rotationPolicy: Always}
  usages: [digital signature, server auth, client auth]
  commonName: {{ first .names }}
  dnsNames:
    {{- toYaml .names | nindent 4 }}
  {{- with .addresses }}
  ipAddresses:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  issuerRef:
    {{- if $manager.issuerRef }}
    {{- toYaml $manager.issuerRef | nindent 4 }}
    {{- else }}
    name: {{ include "pointsman.fullname" .root }}
    kind: Issuer
    group: cert-manager.io
    {{- end }}
{{- end }}

{{/* Either of them. */}}
{{- define "pointsman.certificate" -}}
{{- if .root.Values.certificates.certManager.enabled }}
{{- include "pointsman.certificateRequest" . }}
{{- else }}
{{- include "pointsman.certificateSecret" . }}
{{- end }}
{{- end }}
