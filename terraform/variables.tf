# ---- where ------------------------------------------------------------------------------------

variable "project" {
  description = "Id of the Google Cloud project that this environment has to itself."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "A project's id has 6 to 30 lower-case letters, digits and dashes."
  }

  # Conditions of roles let functions at buckets that begin with fg-, which are the customers'.
  validation {
    condition     = !startswith(var.project, "fg-")
    error_message = "A project fg-… has buckets of ours that would pass for customers' buckets."
  }
}

variable "customers_project" {
  description = <<-TEXT
    Id of the project that customers' buckets, file shares and service accounts are made in, paid by
    the same billing account. Null: the same one. One of its own is the stronger wall; see README.md.
  TEXT
  type        = string
  default     = null

  validation {
    condition     = var.customers_project == null || can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.customers_project))
    error_message = "A project's id has 6 to 30 lower-case letters, digits and dashes."
  }
}

variable "region" {
  description = "Region of the functions, the queues and the cron jobs: the database's, or near it."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]{1,2}$", var.region))
    error_message = "A region looks like europe-west1."
  }
}

variable "domain" {
  description = "Host name of the API, api.example.com. Its DNS must point to the output `address`."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.domain))
    error_message = "The domain is a host name only: no scheme, port or path."
  }
}

# ---- what runs --------------------------------------------------------------------------------

variable "image" {
  description = "The functions' container image, by digest: the same for all of them."
  type        = string
  nullable    = false

  # A tag can be moved: what was tested would not be what runs, and nobody could roll back to it.
  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.image))
    error_message = "Name the image by its digest: …/functions@sha256:…"
  }
}

variable "absent" {
  description = "Functions that `image` does not have: infra/deploy.sh names them on the way back to an image from before them."
  type        = set(string)
  default     = []
  nullable    = false
}

variable "secret_versions" {
  description = <<-TEXT
    Versions of secrets, by id, where it is not the first: {stripe-secret-key = "2"}. Written down
    and not `latest`, so that a rotation is a deployment: all instances change at once, and back.
  TEXT
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for version in values(var.secret_versions) : can(regex("^[1-9][0-9]*$", version))])
    error_message = "A version is a number, as `infra/secrets.sh put` tells it."
  }
}

variable "keep_warm" {
  description = "Whether functions with min_instances keep them when idle. Paid for day and night."
  type        = bool
  nullable    = false
}

variable "database_pool_size" {
  description = "Connections that one instance of a function holds at most."
  type        = number
  default     = 4
  nullable    = false

  validation {
    condition     = var.database_pool_size >= 1 && var.database_pool_size <= 64
    error_message = "The pool has 1 to 64 connections."
  }
}

variable "pooler_clients_max" {
  description = <<-TEXT
    Connections that the pooler before Postgres takes, all clients together: a limit of the
    database's size (at Supabase 200 for micro, 400 for small, 600 for medium). All functions at
    their most must stay below.
  TEXT
  type        = number
  nullable    = false
}

# ---- Supabase ---------------------------------------------------------------------------------

variable "supabase_url" {
  description = "Address of the Supabase project, https://….supabase.co."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^https://[^/]+$", var.supabase_url))
    error_message = "The address is https, without a path or a slash at its end."
  }
}

variable "auth_jwt_algorithm" {
  description = "Algorithm of the Supabase project's access tokens. HS256 needs the secret supabase-jwt-secret."
  type        = string
  default     = "ES256"
  nullable    = false

  validation {
    condition     = contains(["ES256", "RS256", "HS256"], var.auth_jwt_algorithm)
    error_message = "The algorithm is ES256, RS256 or HS256."
  }
}

variable "invitation_url" {
  description = "The page of the app where an invitation is accepted."
  type        = string
  nullable    = false

  validation {
    condition     = startswith(var.invitation_url, "https://")
    error_message = "The page carries a token in its address: https only."
  }
}

# ---- money ------------------------------------------------------------------------------------

variable "stripe_live_mode" {
  description = "true: only real money credits anything. false: only that of Stripe's test mode."
  type        = bool
  nullable    = false
}

variable "stripe_account_id" {
  description = "Our own account at Stripe, acct_…, where notifications of connected accounts arrive, too."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.stripe_account_id == "" || startswith(var.stripe_account_id, "acct_")
    error_message = "An account at Stripe is acct_…"
  }
}

variable "checkout_success_url" {
  description = "Where Stripe's pay page leads with the money paid."
  type        = string
  nullable    = false

  validation {
    condition     = startswith(var.checkout_success_url, "https://")
    error_message = "The page must be https."
  }
}

variable "checkout_cancel_url" {
  description = "Where Stripe's pay page leads without it."
  type        = string
  nullable    = false

  validation {
    condition     = startswith(var.checkout_cancel_url, "https://")
    error_message = "The page must be https."
  }
}

variable "top_up_url" {
  description = "Where a customer buys credits, told with a 402. Empty: a 402 does not tell."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.top_up_url == "" || startswith(var.top_up_url, "https://")
    error_message = "The page must be https."
  }
}

variable "credit_value_usd" {
  description = "What a credit, the display unit, is worth in USD: a decimal, at most six places."
  type        = string
  default     = "1"
  nullable    = false

  # As text: a number would lose decimals on its way.
  validation {
    condition     = can(regex("^[0-9]{1,7}(\\.[0-9]{1,6})?$", var.credit_value_usd)) && try(tonumber(var.credit_value_usd), 0) > 0
    error_message = "The value is a decimal above 0 with at most six places."
  }
}

variable "seller_name" {
  description = "Who sells the credits: heads each receipt."
  type        = string
  nullable    = false
}

variable "seller_address" {
  description = "Address, tax number and what else stands below the name; semicolons part its lines."
  type        = string
  default     = ""
  nullable    = false
}

# ---- customers' resources ---------------------------------------------------------------------

variable "workload_identity_pool" {
  description = "Whose Kubernetes service accounts may act as an organization's. Null: the customers' project's."
  type        = string
  default     = null

  validation {
    condition     = var.workload_identity_pool == null || can(regex("^[a-z][a-z0-9:.-]+\\.svc\\.id\\.goog$", var.workload_identity_pool))
    error_message = "A pool looks like PROJECT.svc.id.goog."
  }
}

variable "filestore_network" {
  description = "VPC network that file shares are connected to."
  type        = string
  default     = "default"
  nullable    = false
}

variable "has_s3_endpoints" {
  description = "Whether regions name S3 endpoints; their keys are the secret s3-endpoints."
  type        = bool
  default     = false
  nullable    = false
}

# ---- who may call, and how often --------------------------------------------------------------

variable "cors_allowed_origins" {
  description = "Origins of browsers that may call: [\"https://app.example.com\"]."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for origin in var.cors_allowed_origins : can(regex("^https://[^/*]+$", origin))])
    error_message = "An origin is https://host: no path, no wildcard."
  }
}

# By default ten a second: an office of people behind one address, or a client that works eight calls
# at a time with a pause. Who calls more from one server is asked to send batches, or is given more.
variable "requests_per_minute" {
  description = "Requests that one address may make in a minute; beyond it gets 429."
  type        = number
  default     = 600
  nullable    = false

  # Fewer than ten refuse a person who clicks through an app: a slip. It is no switch: to let nobody in,
  # see infra/runbooks/restore-drill.md. Above 100000 it limits
  # nobody: three instances, each 40 requests of 50 ms at a time, do 144000.
  validation {
    condition     = var.requests_per_minute >= 10 && var.requests_per_minute <= 100000
    error_message = "The rate is 10 to 100000 requests a minute."
  }
}

# By default a hundred a second, ten times everybody's: a month's 10 million top-ups come at four a
# second, and what Stripe held back during an outage comes all at once.
variable "webhook_requests_per_minute" {
  description = "The same for Stripe's webhook, whose few addresses bring everybody's payments."
  type        = number
  default     = 6000
  nullable    = false

  # One a second is what a few customers' payments bring; less refuses them.
  validation {
    condition     = var.webhook_requests_per_minute >= 60 && var.webhook_requests_per_minute <= 100000
    error_message = "The rate is 60 to 100000 requests a minute."
  }
}

# ---- who is told ------------------------------------------------------------------------------

variable "alert_emails" {
  description = "Mailboxes that alerts and the budget write to."
  type        = set(string)
  nullable    = false

  validation {
    condition     = length(var.alert_emails) > 0 && alltrue([for email in var.alert_emails : can(regex("^[^@ ]+@[^@ ]+$", email))])
    error_message = "At least one mailbox: an alert that nobody reads is none."
  }
}

variable "runbooks_url" {
  description = "Where infra/runbooks is read, without a slash at its end: each alert links to its page."
  type        = string
  default     = "https://github.com/faregate/faregate/blob/main/infra/runbooks"
  nullable    = false
}

variable "latency_p99_milliseconds" {
  description = "How slow one of a hundred calls may be, before somebody is told."
  type        = number
  default     = 1000
  nullable    = false

  validation {
    condition     = var.latency_p99_milliseconds > 0
    error_message = "The limit is more than 0 ms."
  }
}

variable "tracing" {
  description = "Whether spans of requests are sent to Cloud Trace. Paid for by the span."
  type        = bool
  default     = false
  nullable    = false
}

variable "traced_fraction" {
  description = "How much of all requests is traced, 0 to 1, with tracing."
  type        = number
  default     = 0.01
  nullable    = false

  validation {
    condition     = var.traced_fraction >= 0 && var.traced_fraction <= 1
    error_message = "The fraction is 0 to 1."
  }
}

variable "billing_account" {
  description = "Id of the billing account that pays for the project: 000000-000000-000000."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.billing_account))
    error_message = "A billing account's id looks like 01ABCD-2EF345-6789AB."
  }
}

variable "budget_per_month" {
  description = "What a month may cost, in whole units of the billing account's currency. Beyond it mail is sent, nothing is stopped."
  type        = number
  nullable    = false

  validation {
    condition     = var.budget_per_month >= 1 && floor(var.budget_per_month) == var.budget_per_month
    error_message = "The budget is a whole number of at least 1."
  }
}
