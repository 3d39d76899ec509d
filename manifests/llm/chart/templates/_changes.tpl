{{- /* What values change in an object of the base; each changes `object` in place and prints nothing. */ -}}

{{- define "windtunnel.deployment" -}}
{{- $values := .values -}}{{- $workload := .workload -}}{{- $tag := .tag -}}
{{- $pod := .object.spec.template.spec -}}
{{- with $values.images.pullSecrets }}{{ $_ := set $pod "imagePullSecrets" . }}{{ end -}}
{{- with get $workload "replicas" }}{{ $_ := set $.object.spec "replicas" (int .) }}{{ end -}}
{{- range $key := list "nodeSelector" "affinity" "tolerations" -}}
{{- with get $workload $key }}{{ $_ := set $pod $key . }}{{ end -}}
{{- end -}}
{{- range $container := concat $pod.containers (default list $pod.initContainers) -}}
{{- $_ := set $container "imagePullPolicy" $values.images.pullPolicy -}}
{{- $image := regexReplaceAll "^windtunnel/(.*):.*$" $container.image "${1}" -}}
{{- $_ := set $container "image" (printf "%s/%s:%s" $values.images.prefix $image (toString $tag)) -}}
{{- end -}}
{{- $container := first $pod.containers -}}
{{- with get $workload "resources" }}{{ $_ := set $container "resources" . }}{{ end -}}
{{- if and (eq .object.metadata.name "router") $values.pools -}}
{{- include "windtunnel.env" (dict "container" $container "name" "WINDTUNNEL_ROUTER_POOLS" "value" (toJson $values.pools)) -}}
{{- end -}}
{{- range $name, $value := default dict (get $workload "env") -}}
{{- include "windtunnel.env" (dict "container" $container "name" $name "value" (toString $value)) -}}
{{- end -}}
{{- end -}}

{{- define "windtunnel.env" -}}
{{- $kept := list -}}
{{- range .container.env }}{{ if ne .name $.name }}{{ $kept = append $kept . }}{{ end }}{{ end -}}
{{- $_ := set .container "env" (append $kept (dict "name" .name "value" .value)) -}}
{{- end -}}

{{- define "windtunnel.ingress" -}}
{{- $hosts := dict "chat.windtunnel.test" .ingress.pageHost "api.windtunnel.test" .ingress.apiHost -}}
{{- $_ := set .object.spec "ingressClassName" .ingress.className -}}
{{- range .object.spec.rules }}{{ $_ := set . "host" (get $hosts .host) }}{{ end -}}
{{- range .object.spec.tls -}}
{{- $names := list -}}{{- range .hosts }}{{ $names = append $names (get $hosts .) }}{{ end -}}
{{- $_ := set . "hosts" $names -}}{{- $_ := set . "secretName" $.ingress.tlsSecret -}}
{{- end -}}
{{- end -}}
