output "secret_ids" {
  description = "The secrets, by the id that they have in the project."
  value       = { for id, secret in google_secret_manager_secret.this : id => secret.secret_id }
}

output "source_bucket" {
  description = "The bucket of archives."
  value       = google_storage_bucket.source
}

output "repository" {
  description = "The repository of images."
  value       = google_artifact_registry_repository.images
}

output "builder" {
  description = "The account that builds."
  value       = google_service_account.builder
}

output "builder_role" {
  description = "What it may do in the project."
  value       = google_project_iam_member.builder
}
