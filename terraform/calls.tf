# Cron jobs and queues: who calls what is called from within.

resource "google_cloud_scheduler_job" "this" {
  for_each = local.schedules

  name      = each.key
  region    = var.region
  schedule  = each.value.every
  time_zone = "Etc/UTC"

  # Later than the function gives up, so that Cloud Scheduler hears what became of it.
  attempt_deadline = "${each.value.timeout_seconds + 30}s"

  http_target {
    uri         = "${local.urls[each.key]}/schedules/${each.key}"
    http_method = "POST"

    oidc_token {
      service_account_email = google_service_account.scheduler.email
      audience              = local.urls[each.key]
    }
  }

  retry_config {
    retry_count          = each.value.retry_count
    min_backoff_duration = "30s"
  }

  depends_on = [module.function]
}

# A queue has the name of the function that it calls, and calls it whatever a task says.
resource "google_cloud_tasks_queue" "this" {
  for_each = local.tasks

  name     = each.key
  location = var.region

  http_target {
    http_method = "POST"

    uri_override {
      scheme                    = "HTTPS"
      host                      = trimprefix(local.urls[each.key], "https://")
      uri_override_enforce_mode = "ALWAYS"

      path_override {
        path = "/tasks/${each.key}"
      }
    }

    oidc_token {
      service_account_email = google_service_account.tasks.email
      audience              = local.urls[each.key]
    }
  }

  # Soon, because somebody waits; and given up within about an hour, because then the outbox tells
  # it again.
  retry_config {
    max_attempts  = 60
    min_backoff   = "0.100s"
    max_backoff   = "60s"
    max_doublings = 16
  }

  # No more at a time than the function's instances take, which would refuse the others.
  rate_limits {
    max_concurrent_dispatches = each.value.concurrency * each.value.max_instances
    max_dispatches_per_second = each.value.dispatches_per_second
  }

  stackdriver_logging_config {
    sampling_ratio = 0.1
  }
}
