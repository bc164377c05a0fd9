# Usage that has left the database: months of events as Parquet, written once and kept.
resource "google_storage_bucket" "usage_archive" {
  name     = "${var.project}-faregate-usage"
  location = var.region
  labels   = { app = "faregate" }

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  # What is written over, by a second attempt, stays for a while.
  versioning {
    enabled = true
  }
  lifecycle_rule {
    condition {
      days_since_noncurrent_time = 30
    }
    action {
      type = "Delete"
    }
  }
}

# Writing over an object needs the right to delete it.
resource "google_storage_bucket_iam_member" "usage_archive" {
  bucket = google_storage_bucket.usage_archive.name
  role   = "roles/storage.objectUser"
  member = module.function["keep-usage"].account.member
}
