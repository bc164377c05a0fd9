# What functions may do with customers' resources, which they make and delete at run time. All of it
# is named fg- and random (resource_name, account_id): nothing of ours is.
locals {
  # The functions only ever touch these buckets, and neither bucket of ours is one.
  customers_buckets = "resource.name.startsWith(\"projects/_/buckets/fg-\")"

  # An account's policy may be changed for this role only: nobody makes themselves another account.
  # Names of accounts cannot be in a condition, so a project of their own is the stronger wall.
  workload_users = "api.getAttribute(\"iam.googleapis.com/modifiedGrantsByRole\", []).hasOnly([\"roles/iam.workloadIdentityUser\"])"

  # Roles of our own, because every one of Google's that has these permissions has others, too.
  customer_roles = {
    # Asked of the project, not of a bucket: a condition on the name would never be met.
    bucket_maker = {
      title       = "Faregate: make and find buckets"
      permissions = ["storage.buckets.create", "storage.buckets.list"]
      condition   = null
    }
    bucket_keeper = {
      title = "Faregate: let into, empty and delete customers' buckets"
      permissions = [
        "storage.buckets.delete",
        "storage.buckets.get",
        "storage.buckets.getIamPolicy",
        "storage.buckets.setIamPolicy",
        "storage.objects.delete",
        "storage.objects.list",
      ]
      condition = local.customers_buckets
    }
    bucket_reader = {
      title       = "Faregate: measure what is in customers' buckets"
      permissions = ["storage.objects.list"]
      condition   = local.customers_buckets
    }
    object_lister = {
      title       = "Faregate: list and delete customers' objects"
      permissions = ["storage.objects.delete", "storage.objects.list"]
      condition   = local.customers_buckets
    }
    # Whatever a signed address does, it does as the account that signed it. Writing over an object
    # needs the right to delete it.
    object_signer = {
      title       = "Faregate: what signed addresses allow"
      permissions = ["storage.objects.create", "storage.objects.delete", "storage.objects.get"]
      condition   = local.customers_buckets
    }
    object_copier = {
      title = "Faregate: copy customers' objects"
      permissions = [
        "storage.objects.create",
        "storage.objects.delete",
        "storage.objects.get",
        "storage.objects.list",
      ]
      condition = local.customers_buckets
    }
    # Filestore knows no conditions.
    share_keeper = {
      title = "Faregate: make, change and delete file shares"
      permissions = [
        "file.instances.create",
        "file.instances.delete",
        "file.instances.get",
        "file.instances.update",
        "file.operations.get",
      ]
      condition = null
    }
    account_keeper = {
      title = "Faregate: make and delete organizations' service accounts"
      permissions = [
        "iam.serviceAccounts.create",
        "iam.serviceAccounts.delete",
        "iam.serviceAccounts.get",
        "iam.serviceAccounts.getIamPolicy",
        "iam.serviceAccounts.setIamPolicy",
      ]
      condition = local.workload_users
    }
  }

  customer_grants = merge(
    { "signer object_signer" = { member = google_service_account.signer.member, role = "object_signer" } },
    merge([
      for name, row in local.functions : {
        for role in row.roles : "${name} ${role}" => { member = module.function[name].account.member, role = role }
      }
    ]...),
  )
}

resource "google_project_iam_custom_role" "customers" {
  for_each = local.customer_roles

  project     = local.customers_project
  role_id     = "faregate_${each.key}"
  title       = each.value.title
  permissions = each.value.permissions
}

resource "google_project_iam_member" "customers" {
  for_each = local.customer_grants

  project = local.customers_project
  role    = google_project_iam_custom_role.customers[each.value.role].name
  member  = each.value.member

  dynamic "condition" {
    for_each = local.customer_roles[each.value.role].condition[*]
    content {
      title      = "customers_only"
      expression = condition.value
    }
  }
}

# To sign and nothing else: Google's Service Account Token Creator could act as the signer, too.
resource "google_project_iam_custom_role" "blob_signer" {
  role_id     = "faregate_blob_signer"
  title       = "Faregate: sign as the signer"
  permissions = ["iam.serviceAccounts.signBlob"]
}

resource "google_service_account_iam_member" "signer" {
  service_account_id = google_service_account.signer.name
  role               = google_project_iam_custom_role.blob_signer.name
  member             = module.function["objects"].account.member
}
