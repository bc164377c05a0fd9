# Staging: Stripe's test mode, nothing kept warm, the smallest database. `image` comes from the build.
project         = "faregate-staging"
region          = "europe-west1"
domain          = "api.staging.example.com"
billing_account = "000000-000000-000000"

supabase_url       = "https://staging.supabase.co"
database_pool_size = 1
pooler_clients_max = 200 # micro
keep_warm          = false

stripe_live_mode     = false
checkout_success_url = "https://app.staging.example.com/paid"
checkout_cancel_url  = "https://app.staging.example.com/credits"
top_up_url           = "https://app.staging.example.com/credits"
invitation_url       = "https://app.staging.example.com/invitation"
cors_allowed_origins = ["https://app.staging.example.com"]
seller_name          = "Faregate (staging)"

alert_emails     = ["staging@example.com"]
budget_per_month = 100
