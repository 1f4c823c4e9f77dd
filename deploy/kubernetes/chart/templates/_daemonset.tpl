{{/* The DaemonSet: of all nodes, of those without GPUs, or with .nvidia of those with GPUs. */}}
{{- define "carbonmon.daemonset" -}}
{{- $component := ternary "monitor-nvidia" "monitor" .nvidia -}}
{{- with .root -}}
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: {{ include "carbonmon.name" . }}{{ if $.nvidia }}-nvidia{{ end }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "carbonmon.labels" . | nindent 4 }}
    app.kubernetes.io/component: {{ $component }}
spec:
  selector:
    matchLabels:
      {{- include "carbonmon.selector" . | nindent 6 }}
      app.kubernetes.io/component: {{ $component }}
  updateStrategy:
    {{- toYaml .Values.updateStrategy | nindent 4 }}
  template:
    metadata:
      labels:
        {{- include "carbonmon.labels" . | nindent 8 }}
        app.kubernetes.io/component: {{ $component }}
        {{- with .Values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        kubectl.kubernetes.io/default-container: monitor
        {{- with .Values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "carbonmon.account" . }}
      # The daemon needs no token; the other container mounts its own.
      automountServiceAccountToken: false
      enableServiceLinks: false
      # Processes are known by the host's numbers: NVML's, and those of whoever speaks to the socket.
      hostPID: true
      terminationGracePeriodSeconds: 30
      {{- with .Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- if and $.nvidia .Values.nvidia.runtimeClassName }}
      runtimeClassName: {{ .Values.nvidia.runtimeClassName }}
      {{- end }}
      nodeSelector:
        {{- toYaml .Values.nodeSelector | nindent 8 }}
        {{- if $.nvidia }}
        {{ .Values.nvidia.nodeLabel }}: "true"
        {{- end }}
      {{- if and .Values.nvidia.enabled (not $.nvidia) }}
      affinity:
        nodeAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            nodeSelectorTerms:
              - matchExpressions:
                  - key: {{ .Values.nvidia.nodeLabel }}
                    operator: NotIn
                    values: ["true"]
      {{- end }}
      tolerations:
        {{- toYaml .Values.tolerations | nindent 8 }}
      securityContext:
        seccompProfile:
          type: RuntimeDefault
      containers:
        - name: monitor
          image: {{ include "carbonmon.image" . }}
          imagePullPolicy: {{ .Values.image.pullPolicy }}
          args:
            - daemon
            - --listen=0.0.0.0:{{ .Values.port }}
            - --socket=/run/carbonmon/daemon.sock
            - --output=/var/lib/carbonmon
            - --sysfs=/host/sys
            {{- if .Values.webConfigSecret }}
            - --web-config=/etc/carbonmon/web/web-config.yml
            {{- end }}
          env:
            # The pod's own name says nothing to people: runs carry that of the node.
            - name: CARBONMON_HOST
              valueFrom:
                fieldRef:
                  fieldPath: spec.nodeName
            {{- if $.nvidia }}
            # NVML and nothing else of the driver; no GPU is taken from anybody.
            - name: NVIDIA_VISIBLE_DEVICES
              value: all
            - name: NVIDIA_DRIVER_CAPABILITIES
              value: utility
            {{- end }}
            {{- range $name, $value := .Values.options }}
            - name: CARBONMON_{{ $name | upper | replace "-" "_" }}
              value: {{ $value | toString | quote }}
            {{- end }}
            {{- with .Values.env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          {{- with .Values.envFrom }}
          envFrom:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          ports:
            - name: metrics
              containerPort: {{ .Values.port }}
              protocol: TCP
          livenessProbe:
            {{- include "carbonmon.probe" (dict "root" . "path" "/-/healthy") | nindent 12 }}
            initialDelaySeconds: 15
            periodSeconds: 30
            timeoutSeconds: 5
            failureThreshold: 4
          readinessProbe:
            {{- include "carbonmon.probe" (dict "root" . "path" "/-/ready") | nindent 12 }}
            periodSeconds: 10
            timeoutSeconds: 5
          resources:
            {{- toYaml .Values.resources.monitor | nindent 12 }}
          securityContext:
            {{- include "carbonmon.rights" . | nindent 12 }}
          volumeMounts:
            # Elsewhere than at /sys, where container runtimes hide the RAPL counters.
            - name: sys
              mountPath: /host/sys
              readOnly: true
              {{- with .Values.recursiveReadOnly }}
              recursiveReadOnly: {{ . }}
              {{- end }}
            - name: runs
              mountPath: /var/lib/carbonmon
            - name: socket
              mountPath: /run/carbonmon
            {{- if .Values.webConfigSecret }}
            - name: web
              mountPath: /etc/carbonmon/web
              readOnly: true
            {{- end }}
        {{- if .Values.pods.enabled }}
        - name: pods
          image: {{ include "carbonmon.image" . }}
          imagePullPolicy: {{ .Values.image.pullPolicy }}
          args:
            - pods
            - --socket=/run/carbonmon/daemon.sock
            - --sysfs=/host/sys
            - --log-level=info
          env:
            - name: CARBONMON_NODE
              valueFrom:
                fieldRef:
                  fieldPath: spec.nodeName
          resources:
            {{- toYaml .Values.resources.pods | nindent 12 }}
          securityContext:
            {{- include "carbonmon.rights" . | nindent 12 }}
          volumeMounts:
            - name: cgroup
              mountPath: /host/sys/fs/cgroup
              readOnly: true
              {{- with .Values.recursiveReadOnly }}
              recursiveReadOnly: {{ . }}
              {{- end }}
            - name: socket
              mountPath: /run/carbonmon
              readOnly: true
            - name: token
              mountPath: /var/run/secrets/kubernetes.io/serviceaccount
              readOnly: true
        {{- end }}
      volumes:
        - name: sys
          hostPath:
            path: /sys
            type: Directory
        - name: runs
          hostPath:
            path: {{ .Values.hostPaths.runs }}
            type: DirectoryOrCreate
        - name: socket
          hostPath:
            path: {{ .Values.hostPaths.socket }}
            type: DirectoryOrCreate
        {{- with .Values.webConfigSecret }}
        - name: web
          secret:
            secretName: {{ . }}
            defaultMode: 0400
        {{- end }}
        {{- if .Values.pods.enabled }}
        - name: cgroup
          hostPath:
            path: /sys/fs/cgroup
            type: Directory
        - name: token
          projected:
            defaultMode: 0400
            sources:
              - serviceAccountToken:
                  path: token
                  expirationSeconds: 3607
              - configMap:
                  name: kube-root-ca.crt
                  items:
                    - key: ca.crt
                      path: ca.crt
        {{- end }}
{{- end -}}
{{- end -}}
