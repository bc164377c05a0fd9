# A function: a Cloud Run service, the account it runs as, the secrets it may read, who may call it.

resource "google_service_account" "this" {
  account_id   = "fg-${var.name}"
  display_name = "Faregate function ${var.name}"
}

resource "google_secret_manager_secret_iam_member" "reader" {
  for_each = var.secrets

  secret_id = each.value.id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.this.member
}

resource "google_cloud_run_v2_service" "this" {
  name     = var.name
  location = var.region
  ingress  = var.ingress
  labels   = { app = "faregate" }

  # Everything in it is in this folder: a function that is taken out of the table goes.
  deletion_protection = false

  template {
    service_account                  = google_service_account.this.email
    timeout                          = "${var.timeout_seconds}s"
    max_instance_request_concurrency = var.concurrency

    scaling {
      min_instance_count = var.min_instances
      max_instance_count = var.max_instances
    }

    containers {
      image = var.image

      resources {
        limits            = { cpu = var.cpu, memory = "${var.memory_mb}Mi" }
        cpu_idle          = true # paid for while it works only
        startup_cpu_boost = true
      }

      dynamic "startup_probe" {
        for_each = var.is_probed ? [true] : []
        content {
          period_seconds    = 2
          timeout_seconds   = 2
          failure_threshold = 30
          http_get {
            path = "/health"
          }
        }
      }

      dynamic "env" {
        for_each = var.environment
        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = var.secrets
        content {
          name = env.key
          value_source {
            secret_key_ref {
              secret  = env.value.id
              version = env.value.version
            }
          }
        }
      }
    }
  }

  # Without them the first revision could not read its secrets.
  depends_on = [google_secret_manager_secret_iam_member.reader]
}

resource "google_cloud_run_v2_service_iam_member" "invoker" {
  name     = google_cloud_run_v2_service.this.name
  location = google_cloud_run_v2_service.this.location
  role     = "roles/run.invoker"
  member   = var.invoker
}
