{{/*
What a schema cannot say, or could say only in its own words. Included by every workload, so that nothing is rendered.
*/}}
{{- define "bolide.checks" -}}
{{- $values := .Values -}}
{{- range $name := list "route" "broker" "proxy" -}}
{{- $role := get $values $name -}}
{{- range $key, $_ := merge (dict) $role.config $values.config -}}
{{- if has $key (list "server.data" "server.listen" "server.internal" "server.http" "server.external_listen" "server.broker_name" "observe.node_id") -}}
{{- fail (printf "\n\nconfig: %s is decided by the chart and cannot be set; remove it.\n" $key) -}}
{{- end -}}
{{- if or (hasPrefix "cluster." $key) (hasPrefix "server.tls_" $key) -}}
{{- fail (printf "\n\nconfig: %s is decided by the chart; certificates and secrets are given by internalTls, tls and clusterSecret.\n" $key) -}}
{{- end -}}
{{- if has $key (list "server.advertise" "server.external_advertise") -}}
{{- fail (printf "\n\nconfig: write service.advertise or external.advertise instead of %s.\n" $key) -}}
{{- end -}}
{{- if eq $key "server.drain_timeout" -}}
{{- fail "\n\nconfig: write drainSeconds of the role instead of server.drain_timeout, so that its pods are given the time.\n" -}}
{{- end -}}
{{- end -}}
{{- $request := include "bolide.mib" (dig "requests" "memory" "" $role.resources) | int -}}
{{- $limit := include "bolide.mib" (dig "limits" "memory" "" $role.resources) | int -}}
{{- if and $limit (lt $limit (get (dict "route" 32 "broker" 96 "proxy" 48) $name)) -}}
{{- fail (printf "\n\n%s.resources.limits.memory: %d MiB is too little to run in; the smallest that is tested is in values-small.yaml.\n" $name $limit) -}}
{{- end -}}
{{- if and $limit (gt $request $limit) -}}
{{- fail (printf "\n\n%s.resources: requests more memory (%d MiB) than its limit (%d MiB).\n" $name $request $limit) -}}
{{- end -}}
{{- end -}}
{{- if ne (int $values.route.replicas) 1 -}}
{{- fail "\n\nroute.replicas: must be 1. The route service has one copy; while it is away, messages flow on and only changes of topics and groups wait.\n" -}}
{{- end -}}
{{- if not (or $values.broker.persistence.enabled (eq (int $values.broker.replicas) 1)) -}}
{{- fail "\n\nbroker.persistence.enabled: several brokers without volumes would lose messages at every restart; use one broker for trying out.\n" -}}
{{- end -}}
{{- if ne $values.route.persistence.enabled $values.broker.persistence.enabled -}}
{{- fail "\n\nroute.persistence.enabled and broker.persistence.enabled belong together: a broker refuses a cluster that has forgotten it.\n" -}}
{{- end -}}
{{- if and $values.proxy.autoscaling.enabled (gt (int $values.proxy.autoscaling.minReplicas) (int $values.proxy.autoscaling.maxReplicas)) -}}
{{- fail "\n\nproxy.autoscaling: minReplicas is larger than maxReplicas.\n" -}}
{{- end -}}
{{- if and $values.proxy.autoscaling.enabled (not (dig "requests" "cpu" "" $values.proxy.resources)) -}}
{{- fail "\n\nproxy.autoscaling: needs proxy.resources.requests.cpu, of which it takes the percentage.\n" -}}
{{- end -}}
{{- if and (eq $values.external.type "none") (or $values.external.ingress.enabled $values.external.gateway.enabled) -}}
{{- fail "\n\nexternal.type: an Ingress or a Gateway needs the port for clients outside; set external.type=ClusterIP.\n" -}}
{{- end -}}
{{- if and $values.external.nodePort (not (has $values.external.type (list "NodePort" "LoadBalancer"))) -}}
{{- fail "\n\nexternal.nodePort: has no meaning without external.type=NodePort or LoadBalancer.\n" -}}
{{- end -}}
{{- if and $values.external.advertise (eq $values.external.type "none") -}}
{{- fail "\n\nexternal.advertise: nobody outside can connect while external.type is none.\n" -}}
{{- end -}}
{{- if and $values.external.ingress.enabled (not (and $values.external.ingress.host $values.external.ingress.tlsSecret)) -}}
{{- fail "\n\nexternal.ingress: needs host and tlsSecret; gRPC through an Ingress is spoken over TLS.\n" -}}
{{- end -}}
{{- if and $values.external.gateway.enabled (not $values.external.gateway.parentRefs) -}}
{{- fail "\n\nexternal.gateway.parentRefs: name the Gateway that shall pass the clients on.\n" -}}
{{- end -}}
{{- if and $values.tls.existingSecret $values.tls.certManager.enabled -}}
{{- fail "\n\ntls: give existingSecret or certManager, not both.\n" -}}
{{- end -}}
{{- if and $values.tls.certManager.enabled (not $values.tls.certManager.issuerRef.name) -}}
{{- fail "\n\ntls.certManager.issuerRef.name: which issuer signs the certificate that clients see?\n" -}}
{{- end -}}
{{- if and $values.internalTls.existingSecret $values.internalTls.certManager.enabled -}}
{{- fail "\n\ninternalTls: give existingSecret or certManager, not both.\n" -}}
{{- end -}}
{{- end -}}
