{{/* The command line of `drey webhook`. */}}
{{- define "drey.args" -}}
- webhook
- --listen=[::]:{{ .Values.port }}
- --image={{ include "drey.image" . }}
- --image-pull-policy={{ .Values.image.pullPolicy }}
{{- range .Values.injection.allowedImages }}
- --allowed-image={{ . }}
{{- end }}
- --native-sidecar={{ .Values.injection.nativeSidecar }}
{{- if ne .Values.certificates.mode "built-in" }}
- --certificates=files
- --certificate-dir=/certificate
{{- end }}
{{- if .Values.certificates.clientCAConfigMap }}
- --client-ca=/client-ca/ca.crt
{{- end }}
- --log-format={{ .Values.log.format }}
- --log-level={{ .Values.log.level }}
{{- end }}
