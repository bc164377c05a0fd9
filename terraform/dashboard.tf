# One page that shows what the alerts watch, and how much there is to do.
locals {
  charts = [
    { title = "Requests a second, by function", filter = "resource.type=\"cloud_run_revision\" AND metric.type=\"run.googleapis.com/request_count\"", aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", by = ["resource.label.service_name"] },
    { title = "Errors (5xx)", filter = local.alerts.server_errors.filter, aligner = "ALIGN_SUM", reducer = "REDUCE_SUM", by = ["resource.label.service_name"] },
    { title = "p99 of a call, ms", filter = local.alerts.latency_p99.filter, aligner = "ALIGN_PERCENTILE_99", reducer = "REDUCE_MAX", by = ["resource.label.service_name"] },
    { title = "Stripe's notifications that broke", filter = local.alerts.webhook_failures.filter, aligner = "ALIGN_SUM", reducer = "REDUCE_SUM", by = [] },
    { title = "Notifications refused as not Stripe's", filter = local.alerts.webhook_refusals.filter, aligner = "ALIGN_SUM", reducer = "REDUCE_SUM", by = [] },
    { title = "Sweep lag, s", filter = local.alerts.sweep_lag.filter, aligner = "ALIGN_DELTA", reducer = "REDUCE_MEAN", by = [] },
    { title = "Age of the outbox, s", filter = local.alerts.outbox_age.filter, aligner = "ALIGN_DELTA", reducer = "REDUCE_MEAN", by = [] },
    { title = "Rows stuck in the outbox", filter = "${local.from_log}/stuck_outbox\"", aligner = "ALIGN_DELTA", reducer = "REDUCE_MEAN", by = [] },
    { title = "Differences in the ledger", filter = local.alerts.verify_differences.filter, aligner = "ALIGN_DELTA", reducer = "REDUCE_MEAN", by = [] },
    { title = "Open discrepancies", filter = "${local.from_log}/open_discrepancies\"", aligner = "ALIGN_DELTA", reducer = "REDUCE_MEAN", by = [] },
    { title = "Instances, by function", filter = "resource.type=\"cloud_run_revision\" AND metric.type=\"run.googleapis.com/container/instance_count\"", aligner = "ALIGN_MAX", reducer = "REDUCE_SUM", by = ["resource.label.service_name"] },
    { title = "Tasks waiting, by queue", filter = "resource.type=\"cloud_tasks_queue\" AND metric.type=\"cloudtasks.googleapis.com/queue/depth\"", aligner = "ALIGN_MAX", reducer = "REDUCE_SUM", by = ["resource.label.queue_id"] },
    { title = "Requests refused by the front", filter = "resource.type=\"network_security_policy\" AND metric.type=\"networksecurity.googleapis.com/https/request_count\" AND metric.label.blocked=true", aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", by = [] },
  ]
}

resource "google_monitoring_dashboard" "this" {
  dashboard_json = jsonencode({
    displayName = "Faregate"
    mosaicLayout = {
      columns = 12
      tiles = [
        for index, chart in local.charts : {
          width  = 4
          height = 3
          xPos   = index % 3 * 4
          yPos   = floor(index / 3) * 3
          widget = {
            title = chart.title
            xyChart = {
              dataSets = [{
                plotType = "LINE"
                timeSeriesQuery = {
                  timeSeriesFilter = {
                    filter = chart.filter
                    aggregation = {
                      alignmentPeriod    = "300s"
                      perSeriesAligner   = chart.aligner
                      crossSeriesReducer = chart.reducer
                      groupByFields      = chart.by
                    }
                  }
                }
              }]
            }
          }
        }
      ]
    }
  })

  depends_on = [google_logging_metric.counted, google_logging_metric.health, google_logging_metric.latency]
}
