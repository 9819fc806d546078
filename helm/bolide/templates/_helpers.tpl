{{/* Names ------------------------------------------------------------------------------------------------------------ */}}
{{- define "bolide.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Takes (dict "root" $ "component" "broker"). Never changes for an object that exists: selectors are immutable. */}}
{{- define "bolide.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- define "bolide.labels" -}}
{{ include "bolide.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: bolide
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "bolide.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* Name under which a role's service is known to the others; in the certificates too. */}}
{{- define "bolide.host" -}}
{{ include "bolide.fullname" .root }}-{{ .component }}.{{ .root.Release.Namespace }}.svc
{{- end -}}

{{- define "bolide.serviceAccount" -}}
{{ if .root.Values.serviceAccount.create }}{{ include "bolide.fullname" .root }}-{{ .component }}{{ else }}default{{ end }}
{{- end -}}

{{- define "bolide.internalTlsSecret" -}}
{{ .Values.internalTls.existingSecret | default (printf "%s-internal-tls" (include "bolide.fullname" .)) }}
{{- end -}}
{{- define "bolide.clusterSecret" -}}
{{ .Values.clusterSecret.existingSecret | default (printf "%s-cluster-secret" (include "bolide.fullname" .)) }}
{{- end -}}
{{- define "bolide.publicTlsSecret" -}}
{{ .Values.tls.existingSecret | default (printf "%s-public-tls" (include "bolide.fullname" .)) }}
{{- end -}}

{{/* Names that the certificate of the internal ports is good for, as a YAML list. */}}
{{- define "bolide.internalNames" -}}
{{- $root := . -}}
- localhost
{{- range $component := list "route" "broker" "proxy" }}
{{- $short := printf "%s-%s" (include "bolide.fullname" $root) $component }}
{{- $host := printf "%s.%s.svc" $short $root.Release.Namespace }}
- {{ $short }}
- {{ $short }}.{{ $root.Release.Namespace }}
- {{ $host }}
- {{ $host }}.{{ $root.Values.clusterDomain }}
- {{ printf "*.%s" $host | quote }}
- {{ printf "*.%s.%s" $host $root.Values.clusterDomain | quote }}
{{- end }}
{{- end -}}

{{/* The same for the port of the clients. */}}
{{- define "bolide.publicNames" -}}
{{- $root := . -}}
- localhost
{{- range $short := list (include "bolide.fullname" .) (printf "%s-external" (include "bolide.fullname" .)) }}
- {{ $short }}
- {{ $short }}.{{ $root.Release.Namespace }}
- {{ $short }}.{{ $root.Release.Namespace }}.svc
- {{ $short }}.{{ $root.Release.Namespace }}.svc.{{ $root.Values.clusterDomain }}
{{- end }}
{{- range concat .Values.external.hostnames .Values.external.gateway.hostnames (compact (list .Values.external.ingress.host)) | uniq }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Numbers ---------------------------------------------------------------------------------------------------------- */}}
{{/* A quantity of memory in whole MiB; 0 when there is none. */}}
{{- define "bolide.mib" -}}
{{- $text := toString (. | default "0") -}}
{{- $number := regexFind "^[0-9.]+" $text | float64 -}}
{{- $unit := regexFind "[A-Za-z]*$" $text -}}
{{- $factor := get (dict "Ki" 0.0009765625 "Mi" 1.0 "Gi" 1024.0 "Ti" 1048576.0 "k" 0.00095367 "M" 0.95367 "G" 953.67 "T" 953674.0 "" 0.00000095367) $unit -}}
{{- mulf $number $factor | floor | int -}}
{{- end -}}

{{/* Settings --------------------------------------------------------------------------------------------------------- */}}
{{/* What a role is told, as a YAML map of keys; later ones win: sized to memory, everybody's, the role's. */}}
{{- define "bolide.settings" -}}
{{- $role := get .root.Values .component -}}
{{- $mib := include "bolide.mib" (dig "limits" "memory" "" $role.resources) | int -}}
{{- $sized := dict -}}
{{- if gt $mib 0 -}}
{{- if eq .component "proxy" -}}
{{- $share := printf "%dMiB" (max 5 (min 256 (div $mib 8))) -}}
{{- $sized = dict "limits.max_send_in_flight" $share "limits.max_arriving" $share "limits.max_request" (printf "%dMiB" (max 5 (min 64 (div $mib 8)))) "network.connection_window" (printf "%dMiB" (max 1 (min 8 (div $mib 64)))) "network.stream_window" (printf "%dKiB" (max 256 (min 2048 (mul 4 $mib)))) -}}
{{- else -}}
{{- $sized = dict "storage.block_cache" (printf "%dMiB" (max 2 (min 512 (div $mib 16)))) "storage.write_buffer" (printf "%dMiB" (max 2 (min 64 (div $mib 32)))) "storage.max_queue" (printf "%dMiB" (max 8 (min 64 (div $mib 8)))) "storage.max_fold_queue" (printf "%dMiB" (max 8 (min 64 (div $mib 8)))) -}}
{{- end -}}
{{- end -}}
{{- $sized = set $sized "server.drain_timeout" (printf "%ds" (int $role.drainSeconds)) -}}
{{- toYaml (merge (dict) $role.config .root.Values.config $sized) -}}
{{- end -}}

{{- define "bolide.env" -}}
{{- $root := .root -}}
{{- $tls := .root.Values.internalTls.enabled -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- {name: BOLIDE_SERVER_DATA, value: /data}
- {name: BOLIDE_SERVER_INTERNAL, value: "0.0.0.0:8082"}
- {name: BOLIDE_SERVER_HTTP, value: "0.0.0.0:8088"}
- {name: BOLIDE_OBSERVE_NODE_ID, value: $(POD_NAME)}
{{- if not (hasKey (merge (dict) (get .root.Values .component).config .root.Values.config) "observe.cluster") }}
- {name: BOLIDE_OBSERVE_CLUSTER, value: {{ include "bolide.fullname" .root | quote }}}
{{- end }}
{{- if ne .component "route" }}
- {name: BOLIDE_CLUSTER_ROUTE, value: "{{ include "bolide.fullname" .root }}-route-0.{{ include "bolide.host" (dict "root" .root "component" "route") }}:8082"}
{{- end }}
{{- if eq .component "broker" }}
- {name: BOLIDE_SERVER_BROKER_NAME, value: $(POD_NAME)}
- {name: BOLIDE_CLUSTER_ADVERTISE, value: "$(POD_NAME).{{ include "bolide.host" . }}:8082"}
{{- end }}
{{- if eq .component "proxy" }}
- {name: BOLIDE_SERVER_LISTEN, value: "0.0.0.0:8081"}
- {name: BOLIDE_SERVER_TLS_CERTIFICATE, value: /etc/bolide/public/tls.crt}
- {name: BOLIDE_SERVER_TLS_KEY, value: /etc/bolide/public/tls.key}
{{- with .root.Values.service.advertise }}
- {name: BOLIDE_SERVER_ADVERTISE, value: {{ . | quote }}}
{{- end }}
{{- if ne .root.Values.external.type "none" }}
- {name: BOLIDE_SERVER_EXTERNAL_LISTEN, value: "0.0.0.0:8091"}
{{- with .root.Values.external.advertise }}
- {name: BOLIDE_SERVER_EXTERNAL_ADVERTISE, value: {{ . | quote }}}
{{- end }}
{{- end }}
{{- end }}
{{- include "bolide.trustEnv" .root | nindent 0 }}
{{- range $key, $value := include "bolide.settings" . | fromYaml }}
- {name: {{ printf "BOLIDE_%s" ($key | replace "." "_" | upper) }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- with (get .root.Values .component).extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* With what a process proves that it belongs here. */}}
{{- define "bolide.trustEnv" -}}
{{- if .Values.internalTls.enabled -}}
- {name: BOLIDE_CLUSTER_TLS_CA, value: /etc/bolide/internal/ca.crt}
- {name: BOLIDE_CLUSTER_TLS_CERTIFICATE, value: /etc/bolide/internal/tls.crt}
- {name: BOLIDE_CLUSTER_TLS_KEY, value: /etc/bolide/internal/tls.key}
{{- else -}}
- {name: BOLIDE_CLUSTER_SECRET_FILE, value: /etc/bolide/internal/secret}
{{- end -}}
{{- end -}}

{{- define "bolide.trustVolume" -}}
- name: internal
  secret:
    secretName: {{ if .Values.internalTls.enabled }}{{ include "bolide.internalTlsSecret" . }}{{ else }}{{ include "bolide.clusterSecret" . }}{{ end }}
    defaultMode: 288 # 0440; the group is the pod's fsGroup
{{- end -}}

{{/* Parts of a pod --------------------------------------------------------------------------------------------------- */}}
{{- define "bolide.podMeta" -}}
{{- $role := get .root.Values .component -}}
labels:
  {{- include "bolide.labels" . | nindent 2 }}
  {{- with $role.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $role.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "bolide.podSpec" -}}
{{- $role := get .root.Values .component -}}
serviceAccountName: {{ include "bolide.serviceAccount" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
{{- with $role.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $role.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $role.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if or $role.affinity (ne $role.antiAffinity "none") }}
affinity:
  {{- if $role.affinity }}
  {{- toYaml $role.affinity | nindent 2 }}
  {{- else if eq $role.antiAffinity "hard" }}
  podAntiAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "bolide.selector" . | nindent 12 }}
  {{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "bolide.selector" . | nindent 14 }}
  {{- end }}
{{- end }}
topologySpreadConstraints:
  {{- if $role.topologySpreadConstraints }}
  {{- toYaml $role.topologySpreadConstraints | nindent 2 }}
  {{- else }}
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "bolide.selector" . | nindent 8 }}
  {{- end }}
{{- end -}}

{{- define "bolide.container" -}}
{{- $role := get .root.Values .component -}}
name: {{ .component }}
image: {{ include "bolide.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args: [{{ .component }}]
env:
  {{- include "bolide.env" . | nindent 2 }}
securityContext:
  {{- toYaml .root.Values.containerSecurityContext | nindent 2 }}
resources:
  {{- toYaml $role.resources | nindent 2 }}
# A process answers on its HTTP port from the first moment; while it replays its log it lives and is not ready.
startupProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 1
  failureThreshold: {{ .root.Values.probes.startSeconds }}
livenessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: {{ max 1 (div (int .root.Values.probes.liveSeconds) 5) }}
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
{{- end -}}

{{- define "bolide.claim" -}}
{{- $volume := (get .root.Values .component).persistence -}}
- apiVersion: v1
  kind: PersistentVolumeClaim
  metadata:
    name: data
    # Nothing here may change with a version: the template of a StatefulSet's claims is immutable.
    labels:
      {{- include "bolide.selector" . | nindent 6 }}
    {{- with $volume.annotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    accessModes:
      {{- toYaml $volume.accessModes | nindent 6 }}
    {{- if eq $volume.storageClass "-" }}
    storageClassName: ""
    {{- else if $volume.storageClass }}
    storageClassName: {{ $volume.storageClass }}
    {{- end }}
    resources:
      requests:
        storage: {{ $volume.size }}
{{- end -}}
