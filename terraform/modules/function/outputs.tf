output "service" {
  description = "The Cloud Run service."
  value       = google_cloud_run_v2_service.this
}

output "account" {
  description = "The service account that it runs as."
  value       = google_service_account.this
}

output "invoker" {
  description = "Who may call it."
  value       = google_cloud_run_v2_service_iam_member.invoker.member
}

output "readable_secrets" {
  description = "The secrets that it may read, by setting."
  value       = { for setting, binding in google_secret_manager_secret_iam_member.reader : setting => binding.secret_id }
}
