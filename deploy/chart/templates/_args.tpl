{{/* The command line of `drey webhook`. */}}
{{- define "drey.args" -}}
- webhook
- --listen={{ .Values.address }}:{{ .Values.port }}
- --probe-listen={{ .Values.address }}:8080
- --image={{ include "drey.image" . }}
- --image-pull-policy={{ .Values.image.pullPolicy }}
{{- range .Values.injection.allowedImages }}
- --allowed-image={{ . }}
{{- end }}
- --sidecar={{ .Values.injection.sidecar }}
{{- if ne .Values.certificates.mode "built-in" }}
- --tls-dir=/certificate
{{- end }}
{{- if .Values.certificates.clientCAConfigMap }}
- --client-ca=/client-ca/ca.crt
{{- end }}
{{- with join "," .Values.webhook.lookUp | default "none" }}
{{- if ne . "rights,owners" }}
- --look-up={{ . }}
{{- end }}
{{- end }}
- --log-format={{ .Values.log.format }}
- --log-level={{ .Values.log.level }}
{{- end }}
