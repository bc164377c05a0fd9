terraform {
  required_version = ">= 1.9" # a validation may look at another variable

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "6.50.0" # exactly: README.md, "Checks"
    }
  }

  # The bucket is this deployment's own: `terraform init -backend-config=bucket=…`.
  backend "gcs" {
    prefix = "faregate"
  }
}

provider "google" {
  project = var.project
  region  = var.region

  # Budgets are the billing account's, not the project's; somebody's quota must pay for asking.
  user_project_override = true
  billing_project       = var.project
}

# Its number is part of each service's address.
data "google_project" "this" {
  project_id = var.project
}
