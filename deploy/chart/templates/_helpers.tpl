{{/* The labels that the Service and the Deployment select by. */}}
{{- define "drey.selector" -}}
app.kubernetes.io/name: drey
app.kubernetes.io/component: webhook
{{- end }}

{{/* Of every object. Helm adds what it needs to know its own objects by itself. */}}
{{- define "drey.labels" -}}
{{ include "drey.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{/* Of what Flink's pods need, which stays when the chart is uninstalled. */}}
{{- define "drey.flinkLabels" -}}
app.kubernetes.io/name: drey
app.kubernetes.io/component: flink
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "drey.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ printf "%s@%s" .repository .digest }}
{{- else -}}
{{ printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Namespaces whose pods must start without the webhook: its own, and those of the cluster itself. */}}
{{- define "drey.excludedNamespaces" -}}
{{- concat (list .Release.Namespace "kube-system" "kube-public" "kube-node-lease") .Values.webhook.excludedNamespaces | uniq | toJson -}}
{{- end }}

{{/* Values that contradict each other, told in one message. */}}
{{- define "drey.validate" -}}
{{- $found := list }}
{{- with .Values }}
{{- $mode := .certificates.mode }}
{{- if and (eq $mode "files") (not .certificates.files.secretName) }}
{{- $found = append $found "certificates.mode is files, but certificates.files.secretName is empty: name the Secret" }}
{{- end }}
{{- if and (eq $mode "files") (not .certificates.files.caBundle) }}
{{- $found = append $found "certificates.mode is files, but certificates.files.caBundle is empty: give the authority as PEM, with --set-file" }}
{{- end }}
{{- if and (ne $mode "files") (or .certificates.files.secretName .certificates.files.caBundle) }}
{{- $found = append $found (printf "certificates.files is given, but certificates.mode is %s: set it to files, or leave certificates.files out" $mode) }}
{{- end }}
{{- if and (ne $mode "cert-manager") .certificates.certManager.issuerRef }}
{{- $found = append $found (printf "certificates.certManager.issuerRef is given, but certificates.mode is %s: set it to cert-manager, or leave issuerRef out" $mode) }}
{{- end }}
{{- if and .podDisruptionBudget.enabled (lt (int .replicas) 2) }}
{{- $found = append $found "podDisruptionBudget.enabled needs replicas of at least 2: a single pod that may not go holds up every drain" }}
{{- end }}
{{- range .flink.serviceAccounts }}
{{- if has .namespace (include "drey.excludedNamespaces" $ | fromJsonArray) }}
{{- $found = append $found (printf "flink.serviceAccounts names the namespace %s, whose pods are never injected: use another one, or take it out of webhook.excludedNamespaces" .namespace) }}
{{- end }}
{{- end }}
{{- if and .admissionPolicy.enabled (semverCompare "<1.30.0-0" $.Capabilities.KubeVersion.Version) }}
{{- $found = append $found (printf "admissionPolicy.enabled needs Kubernetes 1.30, and this is %s: leave it out" $.Capabilities.KubeVersion.Version) }}
{{- end }}
{{- end }}
{{- if $found }}
{{- fail (printf "\n\n  %s\n" (join "\n  " $found)) }}
{{- end }}
{{- end }}

{{/* CEL, for the webhook's and the policy's conditions. Without optionals, which 1.28 does not have yet. */}}

{{/* The pod says itself whether it wants Drey; what it says is judged by the webhook. */}}
{{- define "drey.cel.annotated" -}}
has(object.metadata.annotations) && 'drey.io/inject' in object.metadata.annotations
{{- end }}

{{- define "drey.cel.optedIn" -}}
{{ include "drey.cel.annotated" . }} && object.metadata.annotations['drey.io/inject'] != 'false'
{{- end }}

{{/* Whether Flink's process in the pod is known to be of one kind: by annotation, else by native mode's labels, else by its
     command: the official image's, a script, a class, or one of these somewhere in `bash -c "…"`. */}}
{{- define "drey.cel.role" -}}
{{- $word := printf "word, word.matches('%s')" .words -}}
has(object.metadata.annotations) && 'drey.io/role' in object.metadata.annotations
? object.metadata.annotations['drey.io/role'] == '{{ .role }}'
: has(object.metadata.labels) && 'type' in object.metadata.labels && object.metadata.labels['type'] == 'flink-native-kubernetes'
? 'component' in object.metadata.labels && object.metadata.labels['component'] == '{{ .role }}'
: object.spec.containers.exists(c, (has(c.command) && c.command.exists({{ $word }})) || (has(c.args) && c.args.exists({{ $word }})))
{{- end }}

{{- define "drey.cel.jobManager" -}}
{{ include "drey.cel.role" (dict "role" "jobmanager" "words" "(^|[/ ])(standalone-job|jobmanager|kubernetes-jobmanager)([.]sh)?( |$)|ClusterEntry[Pp]oint") }}
{{- end }}

{{- define "drey.cel.taskManager" -}}
{{ include "drey.cel.role" (dict "role" "taskmanager" "words" "(^|[/ ])(taskmanager|kubernetes-taskmanager)([.]sh)?( |$)|TaskManagerRunner|TaskExecutorRunner") }}
{{- end }}

{{/* The words of a TaskManager may be an argument of something else: what looks like a JobManager as well is one. */}}
{{- define "drey.cel.onlyTaskManager" -}}
!({{ include "drey.cel.jobManager" . }})
&& ({{ include "drey.cel.taskManager" . }})
{{- end }}
