{{/*
Recording rules and alerts, as groups. The label "policy" is a RouterPolicy's namespace/name. Where the same thing is
seen by several routers, the worst of them counts.
*/}}
{{- define "pointsman.alertGroups" -}}
{{- $limits := .Values.monitoring.prometheusRule.thresholds -}}
groups:
  - name: pointsman.records
    rules:
      - record: policy:pointsman_slo_attainment:ratio_rate5m
        expr: |-
          sum by (policy) (rate(pointsman_slo_attained_requests_total[5m]))
            / sum by (policy) (rate(pointsman_slo_judged_requests_total[5m]))
      - record: policy:pointsman_goodput:rate5m
        expr: sum by (policy) (rate(pointsman_slo_attained_requests_total[5m]))
      - record: policy:pointsman_requests:rate5m
        expr: sum by (policy) (rate(pointsman_requests_total{policy!=""}[5m]))
  - name: pointsman.traffic
    rules:
      - alert: PointsmanRouterAbsent
        expr: absent(pointsman_open_decisions)
        for: 5m
        labels: {severity: critical}
        annotations:
          summary: No Pointsman router is seen
          description: Prometheus has read no metrics of any router for 5 minutes.
      - alert: PointsmanNoExpertReady
        expr: max by (policy) (sum by (policy, namespace, pod, instance) (pointsman_expert_ready)) == 0
        for: 2m
        labels: {severity: critical}
        annotations:
          summary: {{ `No expert of {{ $labels.policy }} is ready` | quote }}
          description: {{ `Requests for RouterPolicy {{ $labels.policy }} get 503: none of its experts may be picked.` | quote }}
      - alert: PointsmanObjectivesMissed
        expr: |-
          sum by (policy) (rate(pointsman_slo_attained_requests_total[10m]))
            / sum by (policy) (rate(pointsman_slo_judged_requests_total[10m])) < {{ divf $limits.sloAttainmentPercent 100 }}
          and sum by (policy) (rate(pointsman_slo_judged_requests_total[10m])) > 0.05
        for: 10m
        labels: {severity: warning}
        annotations:
          summary: {{ `Requests of {{ $labels.policy }} miss their objectives` | quote }}
          description: {{ `Only {{ $value | humanizePercentage }} of the requests of {{ $labels.policy }} met their objectives in the last 10 minutes.` | quote }}
      - alert: PointsmanRequestsDropped
        expr: |-
          sum by (policy) (rate(pointsman_dropped_requests_total[10m]))
            / sum by (policy) (rate(pointsman_requests_total[10m])) > {{ divf $limits.droppedPercent 100 }}
        for: 10m
        labels: {severity: warning}
        annotations:
          summary: {{ `Requests of {{ $labels.policy }} get no expert` | quote }}
          description: {{ `{{ $value | humanizePercentage }} of the requests of {{ $labels.policy }} were shed or found no expert in the last 10 minutes.` | quote }}
      - alert: PointsmanRoutingErrors
        expr: sum by (namespace, pod) (rate(pointsman_routing_errors_total[5m])) > 0
        for: 5m
        labels: {severity: warning}
        annotations:
          summary: {{ `Router {{ $labels.pod }} fails while it decides` | quote }}
          description: {{ `Exceptions while routing in {{ $labels.namespace }}/{{ $labels.pod }}; its log has them. The gateway chose the expert instead where it fails open.` | quote }}
  - name: pointsman.decisions
    rules:
      - alert: PointsmanFallbackPicks
        expr: |-
          sum by (picker, reason) (rate(pointsman_fallback_picks_total[5m]))
            > 0.01 * scalar(sum(rate(pointsman_decisions_total[5m])))
        for: 10m
        labels: {severity: warning}
        annotations:
          summary: {{ `Picker {{ $labels.picker }} does not answer ({{ $labels.reason }})` | quote }}
          description: {{ `{{ $value | humanize }} decisions per second were made by a fallback of {{ $labels.picker }}; reason {{ $labels.reason }}.` | quote }}
      - alert: PointsmanSlowPicks
        expr: |-
          histogram_quantile(0.99, sum by (le, namespace, pod) (rate(pointsman_pick_duration_seconds_bucket[5m])))
            > {{ divf $limits.pickMilliseconds 1000 }}
        for: 10m
        labels: {severity: warning}
        annotations:
          summary: {{ `Router {{ $labels.pod }} decides slowly` | quote }}
          description: {{ `One decision in a hundred takes longer than {{ $value | humanizeDuration }} in {{ $labels.namespace }}/{{ $labels.pod }}.` | quote }}
      - alert: PointsmanOutcomesLost
        expr: |-
          sum(rate(pointsman_expired_decisions_total[15m]))
            / (sum(rate(pointsman_expired_decisions_total[15m])) + sum(rate(pointsman_finished_requests_total[15m]))) > 0.05
        for: 15m
        labels: {severity: warning}
        annotations:
          summary: Routers do not learn what became of their requests
          description: {{ `{{ $value | humanizePercentage }} of the decisions ended without an outcome in the last 15 minutes.` | quote }}
      - alert: PointsmanPredictionsOff
        expr: |-
          (sum by (policy) (rate(pointsman_predicted_request_ttft_seconds_sum[30m]))
            / sum by (policy) (rate(pointsman_request_ttft_seconds_sum[30m])) < 0.5)
          or (sum by (policy) (rate(pointsman_predicted_request_ttft_seconds_sum[30m]))
            / sum by (policy) (rate(pointsman_request_ttft_seconds_sum[30m])) > 2)
        for: 30m
        labels: {severity: info}
        annotations:
          summary: {{ `Predictions for {{ $labels.policy }} are off` | quote }}
          description: {{ `The time to first token that was predicted is {{ $value | humanize }} times the one measured; profiles of its experts would help.` | quote }}
  - name: pointsman.experts
    rules:
      - alert: PointsmanTelemetryStale
        expr: |-
          max by (policy, endpoint) (pointsman_expert_ready) == 1
          unless on (policy, endpoint)
          (min by (policy, endpoint) (pointsman_expert_telemetry_age_seconds) < {{ $limits.telemetryAgeSeconds }})
        for: 5m
        labels: {severity: warning}
        annotations:
          summary: {{ `The load of {{ $labels.endpoint }} is not known` | quote }}
          description: {{ printf `Expert {{ $labels.endpoint }} of {{ $labels.policy }} has had no load sample younger than %v s for 5 minutes; it is routed to by what the routers sent themselves.` $limits.telemetryAgeSeconds | quote }}
      - alert: PointsmanTelemetryProblem
        expr: max by (policy) (pointsman_telemetry_problem) == 1
        for: 10m
        labels: {severity: warning}
        annotations:
          summary: {{ `Telemetry of {{ $labels.policy }} is incomplete` | quote }}
          description: {{ `The policy's telemetry is incomplete or read another way; its condition MetricsFresh and a router's /debug/state say why.` | quote }}
      - alert: PointsmanConfigurationProblem
        expr: max by (namespace, pod, source) (pointsman_configuration_problem) == 1
        for: 5m
        labels: {severity: warning}
        annotations:
          summary: {{ `Router {{ $labels.pod }} does not run what it was told` | quote }}
          description: {{ `A change of {{ $labels.source }} is not in effect in {{ $labels.namespace }}/{{ $labels.pod }}; the last good state is. Its /debug/state says why.` | quote }}
      - alert: PointsmanRoutersDisagree
        expr: |-
          max by (policy, endpoint) (pointsman_expert_ready) != min by (policy, endpoint) (pointsman_expert_ready)
        for: 5m
        labels: {severity: warning}
        annotations:
          summary: {{ `Routers disagree about {{ $labels.endpoint }}` | quote }}
          description: {{ `Some routers hold expert {{ $labels.endpoint }} of {{ $labels.policy }} for ready, others do not: one of them does not hear from the API server.` | quote }}
  - name: pointsman.learning
    rules:
      - alert: PointsmanPolicyServiceAway
        expr: min(pointsman_policy_service_connected) == 0 or max(pointsman_operator_policy_service_connected) == 0
        for: 15m
        labels: {severity: warning}
        annotations:
          summary: The policy service does not answer
          description: For 15 minutes a router or the operator has not reached the policy service. Requests are routed as before; nothing is learned.
      - alert: PointsmanRecordsLost
        expr: sum by (namespace, pod, reason) (rate(pointsman_outcomes_dropped_total[15m])) > 0
        for: 5m
        labels: {severity: warning}
        annotations:
          summary: {{ `Router {{ $labels.pod }} loses outcomes ({{ $labels.reason }})` | quote }}
          description: {{ `Outcomes of {{ $labels.namespace }}/{{ $labels.pod }} never reach the policy service; reason {{ $labels.reason }}.` | quote }}
      - alert: PointsmanVersionUnusable
        expr: sum by (policy) (increase(pointsman_version_problems_total[30m])) > 0
        for: 5m
        labels: {severity: warning}
        annotations:
          summary: {{ `Routers cannot use a version of {{ $labels.policy }}` | quote }}
          description: {{ `A version of {{ $labels.policy }} could not be fetched or read; the last good one serves.` | quote }}
      - alert: PointsmanPolicyStoreFull
        expr: max(pointsman_policy_store_full) == 1
        for: 5m
        labels: {severity: warning}
        annotations:
          summary: The policy service's volume is full
          description: The policy service takes no outcomes; routers keep them for as long as they have room.
      - alert: PointsmanPolicyStoreDamaged
        expr: max(pointsman_policy_store_problems) > 0
        for: 5m
        labels: {severity: warning}
        annotations:
          summary: The policy service has set damaged files aside
          description: {{ `{{ $value }} files of outcomes could not be read and were set aside; training goes on without them.` | quote }}
      - alert: PointsmanTrainingFailed
        expr: max by (policy) (pointsman_policy_training_failed) == 1
        for: 5m
        labels: {severity: warning}
        annotations:
          summary: {{ `Training of {{ $labels.policy }} fails` | quote }}
          description: {{ `The last training of {{ $labels.policy }} ended without a result; the active version serves on.` | quote }}
      - alert: PointsmanRolloutProblem
        expr: max by (policy) (pointsman_policy_rollout_problem) == 1
        for: 10m
        labels: {severity: warning}
        annotations:
          summary: {{ `The rollout of {{ $labels.policy }} is held up` | quote }}
          description: {{ `Something keeps the policy service from rolling out {{ $labels.policy }}; condition PolicyPromoted says what.` | quote }}
      - alert: PointsmanVersionWithdrawn
        expr: max by (condition) (pointsman_operator_policies{condition="PolicyPromoted",status="False"}) > 0
        for: 5m
        labels: {severity: info}
        annotations:
          summary: A trained version was refused or withdrawn
          description: {{ `The newest version of {{ $value }} RouterPolicies did not come into service; the one before serves on.` | quote }}
      - alert: PointsmanExpertsDrifted
        expr: max by (policy, expert) (pointsman_policy_expert_drifted) == 1
        for: 1h
        labels: {severity: info}
        annotations:
          summary: {{ `Expert {{ $labels.expert }} is not as fast as believed` | quote }}
          description: {{ `Expert {{ $labels.expert }} of {{ $labels.policy }} has been slower or faster than its policy believes for an hour.` | quote }}
  - name: pointsman.operator
    rules:
      - alert: PointsmanOperatorInactive
        expr: max(pointsman_operator_active) == 0 or absent(pointsman_operator_active)
        for: 5m
        labels: {severity: warning}
        annotations:
          summary: No Pointsman operator is active
          description: For 5 minutes nobody has looked after the status of RouterPolicies. Routers route on.
      - alert: PointsmanPolicyNotInEffect
        expr: max by (condition) (pointsman_operator_policies{condition=~"Accepted|Programmed",status="False"}) > 0
        for: 10m
        labels: {severity: warning}
        annotations:
          summary: {{ `RouterPolicies are not in effect ({{ $labels.condition }})` | quote }}
          description: {{ `Condition {{ $labels.condition }} of {{ $value }} RouterPolicies has been False for 10 minutes; kubectl get rp --all-namespaces says of which.` | quote }}
      - alert: PointsmanStatusWritesFail
        expr: sum(rate(pointsman_operator_status_writes_total{result="failed"}[10m])) > 0
        for: 10m
        labels: {severity: warning}
        annotations:
          summary: The operator cannot write the status of RouterPolicies
          description: What kubectl get rp shows may be out of date; the operator's log says why.
{{- end }}
