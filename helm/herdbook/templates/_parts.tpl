{{/* Names, labels and the parts that every pod of the chart shares. */}}

{{- define "herdbook.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* 40 characters at most: a StatefulSet's name goes into a label together with a hash, and pods add an ordinal. */}}
{{- define "herdbook.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "herdbook.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "herdbook.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects the pods of a component: (dict "root" $ "component" "replica"). Never changes within a release. */}}
{{- define "herdbook.selector" -}}
app.kubernetes.io/name: {{ include "herdbook.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "herdbook.labels" -}}
{{ include "herdbook.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "herdbook.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "herdbook.tokenSecret" -}}
{{- .Values.joinToken.existingSecret | default (printf "%s-join-token" (include "herdbook.fullname" .)) -}}
{{- end -}}

{{/* Pod Security "restricted", and a user that owns nothing in the image. */}}
{{- define "herdbook.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "herdbook.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Each probe asks for a health service of its own: alive is not ready, and ready is not started. */}}
{{- define "herdbook.probes" -}}
startupProbe:
  grpc: { port: {{ . }}, service: "" }
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 120
readinessProbe:
  grpc: { port: {{ . }}, service: herdbook.v1.DocumentService }
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
livenessProbe:
  grpc: { port: {{ . }}, service: liveness }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}

{{/* Where the pods of a component may run: (dict "at" .Values.replica). */}}
{{- define "herdbook.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* One claim of a StatefulSet: (dict "name" "data" "size" "10Gi" "class" ""). */}}
{{- define "herdbook.claim" -}}
- metadata:
    name: {{ .name }}
  spec:
    accessModes: [ReadWriteOnce]
    {{- with .class }}
    storageClassName: {{ . }}
    {{- end }}
    resources:
      requests:
        storage: {{ .size }}
{{- end -}}
