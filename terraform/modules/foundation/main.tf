# What must be there before functions can be: somewhere to build their image, and their secrets.
# The first deployment applies this part alone, each later one the containers of new secrets; then
# it asks for values that are missing, builds, and plans the rest.

# ---- the source, and the image made of it -----------------------------------------------------

resource "google_storage_bucket" "source" {
  name     = "${var.project}-faregate-source"
  location = var.region
  labels   = { app = "faregate" }

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  # An archive is named by its content, so an older version of one is somebody's doing.
  versioning {
    enabled = true
  }

  # Images are kept for going back; an archive is only needed until its image is built.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age = 90
    }
  }
}

resource "google_artifact_registry_repository" "images" {
  repository_id = "faregate"
  location      = var.region
  format        = "DOCKER"
  labels        = { app = "faregate" }

  docker_config {
    immutable_tags = true
  }

  cleanup_policies {
    id     = "keep-the-last-twenty"
    action = "KEEP"
    most_recent_versions {
      keep_count = 20
    }
  }

  cleanup_policies {
    id     = "delete-older-ones"
    action = "DELETE"
    condition {
      older_than = "2592000s"
    }
  }
}

resource "google_service_account" "builder" {
  account_id   = "faregate-builder"
  display_name = "Faregate: builds the functions' image"
}

resource "google_storage_bucket_iam_member" "builder" {
  bucket = google_storage_bucket.source.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.builder.member
}

resource "google_artifact_registry_repository_iam_member" "builder" {
  repository = google_artifact_registry_repository.images.name
  location   = google_artifact_registry_repository.images.location
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.builder.member
}

resource "google_project_iam_member" "builder" {
  project = var.project
  role    = "roles/logging.logWriter"
  member  = google_service_account.builder.member
}

# ---- secrets: the containers; infra/secrets.sh puts the values in, so that no state has any -----

resource "google_secret_manager_secret" "this" {
  for_each = var.secret_ids

  secret_id = each.key
  labels    = { app = "faregate" }

  replication {
    auto {}
  }

  # A version that was destroyed by mistake can be had back for a week.
  version_destroy_ttl = "604800s"
}
