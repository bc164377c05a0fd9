# What somebody is told of. Each has a page in infra/runbooks: what it means, where to look, what to do.

resource "google_monitoring_notification_channel" "mail" {
  for_each = var.alert_emails

  display_name = each.key
  type         = "email"
  labels       = { email_address = each.key }
}

locals {
  from_log = "resource.type=\"cloud_run_revision\" AND metric.type=\"logging.googleapis.com/user/faregate"

  # Above `limit`, at all times during `duration_seconds`. A health number is a distribution of one
  # value a minute; of its values a mean above 0 means one above 0.
  alerts = {
    webhook_failures = {
      title            = "Stripe's notifications fail"
      means            = "Payments may be paid and not credited. Stripe repeats for three days."
      severity         = "CRITICAL"
      filter           = "${local.from_log}/webhook_failures\""
      aligner          = "ALIGN_SUM"
      reducer          = "REDUCE_SUM"
      limit            = 0 # a defect refuses each of Stripe's attempts, which are hours apart
      duration_seconds = 0
    }
    webhook_refusals = {
      title            = "Notifications come that are not Stripe's"
      means            = "Somebody floods the address, or the signing secret is another one's: then what is paid is not credited."
      severity         = "WARNING"
      filter           = "${local.from_log}/webhook_refusals\""
      aligner          = "ALIGN_SUM"
      reducer          = "REDUCE_SUM"
      limit            = 100 # in each five minutes of a quarter of an hour: no scanner, no curious
      duration_seconds = 600
    }
    sweep_lag = {
      title            = "Sessions are charged late"
      means            = "The sweep does not keep up, does not run, or nobody tells how it is."
      severity         = "CRITICAL"
      filter           = "${local.from_log}/sweep_lag\""
      aligner          = "ALIGN_DELTA"
      reducer          = "REDUCE_MEAN"
      limit            = 180 # it runs each minute, and windows are of ten
      duration_seconds = 0
    }
    outbox_age = {
      title            = "What is to happen outside waits"
      means            = "Cards are not charged, storage is not made, mails are not sent."
      severity         = "ERROR"
      filter           = "${local.from_log}/outbox_age\""
      aligner          = "ALIGN_DELTA"
      reducer          = "REDUCE_MEAN"
      limit            = 600 # queues are told within a minute, and try for an hour
      duration_seconds = 0
    }
    verify_differences = {
      title            = "The ledger does not add up"
      means            = "A recomputation from transfers found another balance. It must find none, ever."
      severity         = "CRITICAL"
      filter           = "${local.from_log}/verify_differences\""
      aligner          = "ALIGN_DELTA"
      reducer          = "REDUCE_MEAN"
      limit            = 0
      duration_seconds = 0
    }
    server_errors = {
      title            = "Requests break on our side"
      means            = "Functions answer 5xx: a defect, the database, or a provider."
      severity         = "ERROR"
      filter           = "${local.from_log}/server_errors\""
      aligner          = "ALIGN_SUM"
      reducer          = "REDUCE_SUM"
      limit            = 5
      duration_seconds = 0
    }
    latency_p99 = {
      title            = "Calls are slow"
      means            = "One of a hundred calls takes longer than it should, for ten minutes."
      severity         = "WARNING"
      filter           = "${local.from_log}/latency\""
      aligner          = "ALIGN_PERCENTILE_99"
      reducer          = "REDUCE_MAX"
      limit            = var.latency_p99_milliseconds
      duration_seconds = 600
    }
    uptime = {
      title            = "The API is not reached from outside"
      means            = "Two places of the world or more get no answer: DNS, certificate, front, or database."
      severity         = "CRITICAL"
      filter           = "resource.type=\"uptime_url\" AND metric.type=\"monitoring.googleapis.com/uptime_check/check_passed\" AND metric.labels.check_id=\"${google_monitoring_uptime_check_config.front.uptime_check_id}\""
      aligner          = "ALIGN_NEXT_OLDER"
      reducer          = "REDUCE_COUNT_FALSE"
      limit            = 1
      duration_seconds = 60
    }
  }

  # What else an alert tells of. A signing secret that is wrong refuses Stripe like anybody else; the
  # daily reconciliation asks Stripe what it has sent, and finds what never arrived.
  besides = {
    webhook_failures = [{
      title            = "Stripe's notifications never arrived"
      filter           = "${local.from_log}/missed_events\""
      aligner          = "ALIGN_DELTA"
      reducer          = "REDUCE_MEAN"
      limit            = 0
      duration_seconds = 0
    }]
  }

  # It would be silent, too, if the function that tells these numbers were.
  absences = {
    sweep_lag = "report-health has been silent for ten minutes"
  }
}

resource "google_monitoring_uptime_check_config" "front" {
  display_name = "faregate"
  timeout      = "10s"
  period       = "60s"

  # Through the front, one function and its pool to the database.
  http_check {
    path         = "/health"
    port         = 443
    use_ssl      = true
    validate_ssl = true
  }

  monitored_resource {
    type   = "uptime_url"
    labels = { project_id = var.project, host = var.domain }
  }
}

resource "google_monitoring_alert_policy" "this" {
  for_each = local.alerts

  display_name          = "Faregate: ${each.value.title}"
  severity              = each.value.severity
  combiner              = "OR"
  notification_channels = [for channel in google_monitoring_notification_channel.mail : channel.name]

  dynamic "conditions" {
    for_each = concat([each.value], lookup(local.besides, each.key, []))
    content {
      display_name = conditions.value.title

      condition_threshold {
        filter          = conditions.value.filter
        comparison      = "COMPARISON_GT"
        threshold_value = conditions.value.limit
        duration        = "${conditions.value.duration_seconds}s"

        aggregations {
          alignment_period     = "300s"
          per_series_aligner   = conditions.value.aligner
          cross_series_reducer = conditions.value.reducer
        }
      }
    }
  }

  dynamic "conditions" {
    for_each = { for name, title in local.absences : name => title if name == each.key }
    content {
      display_name = conditions.value

      condition_absent {
        filter   = each.value.filter
        duration = "600s"

        aggregations {
          alignment_period     = "300s"
          per_series_aligner   = each.value.aligner
          cross_series_reducer = each.value.reducer
        }
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "${each.value.means}\n\nWhat to do: ${var.runbooks_url}/${replace(each.key, "_", "-")}.md"
  }

  # A filter's metric must be there before a policy may name it.
  depends_on = [google_logging_metric.counted, google_logging_metric.health, google_logging_metric.latency]
}

data "google_project" "customers" {
  project_id = local.customers_project
}

# Its page is runbooks_url/budget.md. A budget's mail takes no text of ours.
resource "google_billing_budget" "month" {
  billing_account = var.billing_account
  display_name    = "Faregate ${var.project}"

  budget_filter {
    projects = distinct([for project in [data.google_project.this, data.google_project.customers] : "projects/${project.number}"])
  }

  amount {
    specified_amount {
      units = tostring(var.budget_per_month)
    }
  }

  threshold_rules {
    threshold_percent = 0.5
  }
  threshold_rules {
    threshold_percent = 0.9
  }
  threshold_rules {
    threshold_percent = 1
  }
  # Days before it happens.
  threshold_rules {
    threshold_percent = 1
    spend_basis       = "FORECASTED_SPEND"
  }

  all_updates_rule {
    monitoring_notification_channels = slice([for channel in google_monitoring_notification_channel.mail : channel.name], 0, min(5, length(var.alert_emails)))
  }
}
