output "address" {
  description = "The IP address that the domain's A record must name."
  value       = google_compute_global_address.front.address
}

output "url" {
  description = "The API."
  value       = "https://${var.domain}"

  # At their most, all instances together: beyond it, calls would wait for a connection and fail.
  precondition {
    condition     = local.connections_max <= var.pooler_clients_max
    error_message = "All instances at their most hold ${local.connections_max} connections, the pooler takes ${var.pooler_clients_max}: lower database_pool_size, or choose a larger database."
  }

  # A name that no column has would be ignored, and the default taken for it.
  precondition {
    condition = alltrue([
      for row in values(local.table) : length(setsubtract(keys(row), concat(["kind"], keys(local.defaults.all), keys(local.defaults.public)))) == 0
    ])
    error_message = "A row of the table of functions names a column that there is not."
  }
}

output "image" {
  description = "What runs: where a deployment that fails goes back to."
  value       = var.image

  # Not before it does, or a first deployment that broke off would pass for one that succeeded.
  depends_on = [module.function]
}

output "functions" {
  description = "The functions that this image has: those that a deployment that fails takes back to it."
  value       = join(" ", setsubtract(keys(local.table), var.absent))

  depends_on = [module.function]
}

output "stripe_webhook_url" {
  description = "Where Stripe sends its notifications."
  value       = "https://${var.domain}/v1/stripe/webhook"
}

output "source_bucket" {
  description = "Where infra/deploy.sh puts the archive, named by its content."
  value       = module.foundation.source_bucket.name
}

output "repository" {
  description = "Where the image goes: REGION-docker.pkg.dev/PROJECT/REPOSITORY."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${module.foundation.repository.repository_id}"
}

output "builder" {
  description = "The account that builds the image."
  value       = module.foundation.builder.email
}

output "services" {
  description = "Where each function is, for those who may call it."
  value       = local.urls
}
