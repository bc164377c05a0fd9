# What functions read from their environment (functions/.env.example), in groups: a row of the table
# names those that it needs, and gets no other. An empty value counts as none.
locals {
  customers_project = coalesce(var.customers_project, var.project)

  settings = {
    all = merge({
      CORS_ALLOWED_ORIGINS = join(",", var.cors_allowed_origins)
      TOP_UP_URL           = var.top_up_url
      CREDIT_VALUE_USD     = var.credit_value_usd
      TRUSTED_PROXIES      = "2" # the load balancer writes the caller's address, then its own
      DATABASE_POOL_SIZE   = tostring(var.database_pool_size)
      GOOGLE_CLOUD_PROJECT = var.project # whose traces the log's lines belong to
      IMAGE_DIGEST         = substr(split("@sha256:", var.image)[1], 0, 12)
      }, var.tracing ? {
      TRACING                     = "true"
      OTEL_EXPORTER_OTLP_ENDPOINT = "https://telemetry.googleapis.com"
      OTEL_TRACES_SAMPLER         = "traceidratio"
      OTEL_TRACES_SAMPLER_ARG     = tostring(var.traced_fraction)
    } : {})
    users         = { SUPABASE_URL = var.supabase_url, AUTH_JWT_ALGORITHM = var.auth_jwt_algorithm }
    reader_tokens = {}
    mails         = { SUPABASE_URL = var.supabase_url, INVITATION_URL = var.invitation_url }
    seller        = { SELLER_NAME = var.seller_name, SELLER_ADDRESS = var.seller_address }
    checkout      = { CHECKOUT_SUCCESS_URL = var.checkout_success_url, CHECKOUT_CANCEL_URL = var.checkout_cancel_url }
    stripe        = {}
    stripe_mode   = { STRIPE_LIVE_MODE = tostring(var.stripe_live_mode) }
    stripe_webhook = {
      STRIPE_ACCOUNT_ID = var.stripe_account_id
    }
    # In our own project: it is no customer's.
    archive     = { GOOGLE_PROJECT = var.project, USAGE_ARCHIVE_BUCKET = google_storage_bucket.usage_archive.name }
    customers   = { GOOGLE_PROJECT = local.customers_project }
    signer      = { STORAGE_SIGNER = google_service_account.signer.email }
    file_shares = { FILESTORE_NETWORK = var.filestore_network }
    identities = {
      WORKLOAD_IDENTITY_POOL = coalesce(var.workload_identity_pool, "${local.customers_project}.svc.id.goog")
    }
    s3 = {}
  }

  # The setting, and the id of the secret that is its value.
  secret_settings = {
    all            = { DATABASE_URL = "database-url" }
    users          = var.auth_jwt_algorithm == "HS256" ? { SUPABASE_JWT_SECRET = "supabase-jwt-secret" } : {}
    reader_tokens  = { TOKEN_SIGNING_KEY = "token-signing-key" }
    mails          = { SUPABASE_SECRET_KEY = "supabase-secret-key" }
    stripe         = { STRIPE_SECRET_KEY = "stripe-secret-key" }
    stripe_webhook = { STRIPE_WEBHOOK_SECRET = "stripe-webhook-secret" }
    s3             = var.has_s3_endpoints ? { S3_ENDPOINTS = "s3-endpoints" } : {}
  }

  secret_ids = toset(flatten([for settings in values(local.secret_settings) : values(settings)]))

  # Whoever enqueues. Each queue has its own address, account and audience, which replace these (see
  # calls.tf); should it ever not, a task goes nowhere.
  enqueuer = {
    TASKS_LOCATION        = "projects/${var.project}/locations/${var.region}"
    TASKS_TARGET_URL      = "https://queue.invalid"
    TASKS_AUDIENCE        = "https://queue.invalid"
    TASKS_SERVICE_ACCOUNT = google_service_account.tasks.email
  }

  # Whoever is called by a service account. Cloud Run has verified the token's signature and removed
  # it: the code looks at the rest. Never without the bindings of identities.tf.
  callers = {
    public   = null
    schedule = google_service_account.scheduler.email
    task     = google_service_account.tasks.email
  }

  environments = {
    for name, row in local.functions :
    name => {
      for setting, value in merge(
        local.settings.all,
        merge([for group in row.settings : local.settings[group]]...),
        length(row.queues) > 0 ? local.enqueuer : null,
        row.kind == "public" ? null : {
          INVOKER_GUARD           = "iam"
          INVOKER_SERVICE_ACCOUNT = local.callers[row.kind]
          INVOKER_AUDIENCE        = local.urls[name]
        },
        { FUNCTION_TARGET = replace(name, "-", "_") },
      ) : setting => value if value != ""
    }
  }

  secrets = {
    for name, row in local.functions :
    name => {
      for setting, id in merge([for group in concat(["all"], row.settings) : lookup(local.secret_settings, group, {})]...) :
      setting => {
        id      = module.foundation.secret_ids[id]
        version = lookup(var.secret_versions, id, "1")
      }
    }
  }
}
