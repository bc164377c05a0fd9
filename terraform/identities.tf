# Who calls whom. What functions themselves are allowed stands in modules/function (their secrets),
# in customers.tf (customers' resources) and at the end of this file (queues). README.md has all of it
# in one table.

module "foundation" {
  source = "./modules/foundation"

  project    = var.project
  region     = var.region
  secret_ids = local.secret_ids
}

resource "google_service_account" "scheduler" {
  account_id   = "faregate-scheduler"
  display_name = "Faregate: Cloud Scheduler calls schedules as it"
}

resource "google_service_account" "tasks" {
  account_id   = "faregate-tasks"
  display_name = "Faregate: queues call tasks as it"
}

resource "google_service_account" "signer" {
  account_id   = "faregate-signer"
  display_name = "Faregate: addresses of objects are signed as it"
}

locals {
  # The one member that Cloud Run lets in. allUsers for public functions only: the browsers and
  # servers that call them have no Google identity, and the functions ask for their own.
  invokers = {
    public   = "allUsers"
    schedule = google_service_account.scheduler.member
    task     = google_service_account.tasks.member
  }

  enqueuers = { for name, row in local.functions : name => row if length(row.queues) > 0 }

  enqueues = merge([
    for name, row in local.enqueuers : {
      for queue in row.queues : "${name} ${queue}" => { function = name, queue = queue }
    }
  ]...)
}

resource "google_cloud_tasks_queue_iam_member" "enqueuer" {
  for_each = local.enqueues

  name     = google_cloud_tasks_queue.this[each.value.queue].name
  location = var.region
  role     = "roles/cloudtasks.enqueuer"
  member   = module.function[each.value.function].account.member
}

# Who makes a task that calls as an account must be allowed to act as it.
resource "google_service_account_iam_member" "enqueuer" {
  for_each = local.enqueuers

  service_account_id = google_service_account.tasks.name
  role               = "roles/iam.serviceAccountUser"
  member             = module.function[each.key].account.member
}

resource "google_project_iam_member" "tracer" {
  for_each = var.tracing ? local.functions : {}

  project = var.project
  role    = "roles/telemetry.tracesWriter"
  member  = module.function[each.key].account.member
}
