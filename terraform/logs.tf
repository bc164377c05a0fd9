# Who looked at or changed what is worth stealing: secrets, identities, and signatures. Changes are
# always logged by Google; reading is not, unless it is asked for here. Not for customers' objects:
# that would cost more than the objects.
resource "google_project_iam_audit_config" "this" {
  for_each = toset(["secretmanager.googleapis.com", "iam.googleapis.com", "iamcredentials.googleapis.com", "sts.googleapis.com"])

  project = var.project
  service = each.key

  audit_log_config {
    log_type = "ADMIN_READ"
  }
  audit_log_config {
    log_type = "DATA_READ"
  }
  audit_log_config {
    log_type = "DATA_WRITE"
  }
}

# Numbers out of the functions' log lines (functions/faregate/log.py), and of Cloud Run's own.
locals {
  request_lines = "resource.type=\"cloud_run_revision\" AND jsonPayload.message=\"request\""
  # Cloud Run's: a function that does not start, ran out of memory or of time, writes no line.
  run_lines = "resource.type=\"cloud_run_revision\" AND logName=\"projects/${var.project}/logs/run.googleapis.com%2Frequests\""

  counted_lines = {
    # Only what has Stripe's signature gets as far as breaking: everybody else is refused before.
    webhook_failures = {
      what   = "Genuine notifications of Stripe that broke on our side"
      filter = "${local.run_lines} AND resource.labels.service_name=\"stripe-webhook\" AND httpRequest.status>=500"
    }
    # Anybody can be refused, as often as they like.
    webhook_refusals = {
      what   = "Notifications without Stripe's signature, or in no form of Stripe's"
      filter = "${local.request_lines} AND resource.labels.service_name=\"stripe-webhook\" AND jsonPayload.status>=400 AND jsonPayload.status<500"
    }
    # A task answers 503 when it is not its time yet, and comes again: no error.
    server_errors = {
      what   = "Requests that broke on our side"
      filter = "${local.run_lines} AND httpRequest.status>=500 AND NOT (httpRequest.requestUrl=~\"/tasks/\" AND httpRequest.status=503)"
    }
  }

  # What report_health says each minute.
  health_numbers = {
    sweep_lag          = { what = "How late the most overdue session's charge is", field = "sweep_lag_seconds", unit = "s" }
    outbox_age         = { what = "How long the oldest row of the outbox is overdue", field = "outbox_age_seconds", unit = "s" }
    stuck_outbox       = { what = "Rows of the outbox that are late or were tried in vain", field = "stuck_outbox", unit = "1" }
    verify_differences = { what = "Differences that the last verification of the ledger found", field = "verify_differences", unit = "1" }
    missed_events      = { what = "Notifications that never arrived and that the last reconciliation found at Stripe", field = "missed_events", unit = "1" }
    open_discrepancies = { what = "Where provider, payments and ledger disagree", field = "open_discrepancies", unit = "1" }
  }
}

resource "google_logging_metric" "counted" {
  for_each = local.counted_lines

  name        = "faregate/${each.key}"
  description = each.value.what
  filter      = each.value.filter

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
  }
}

resource "google_logging_metric" "health" {
  for_each = local.health_numbers

  name            = "faregate/${each.key}"
  description     = each.value.what
  filter          = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"report-health\" AND jsonPayload.message=\"health\""
  value_extractor = "EXTRACT(jsonPayload.${each.value.field})"

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "DISTRIBUTION"
    unit        = each.value.unit
  }
}

# The function's own time, without the start of an instance. Exports and an operator's comparisons
# take as long as they take.
resource "google_logging_metric" "latency" {
  name            = "faregate/latency"
  description     = "How long a call of a customer takes"
  filter          = "${local.request_lines} AND jsonPayload.path=~\"^/v1/\" AND NOT jsonPayload.path=~\"^/v1/(statements|reconciliation)\""
  value_extractor = "EXTRACT(jsonPayload.duration_ms)"

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "DISTRIBUTION"
    unit        = "ms"
  }

  bucket_options {
    exponential_buckets {
      num_finite_buckets = 48 # a bucket is a fifth wider than the one before: 1 ms to 6 s
      growth_factor      = 1.2
      scale              = 1
    }
  }
}
