# Production: real money, four functions kept warm. `image` comes from the build.
project         = "faregate-production"
region          = "europe-west1"
domain          = "api.example.com"
billing_account = "000000-000000-000000"
# customers_project = "faregate-customers" # recommended: README.md, "Walls"

supabase_url       = "https://production.supabase.co"
database_pool_size = 4
pooler_clients_max = 600 # medium
keep_warm          = true

stripe_live_mode     = true
checkout_success_url = "https://app.example.com/paid"
checkout_cancel_url  = "https://app.example.com/credits"
top_up_url           = "https://app.example.com/credits"
invitation_url       = "https://app.example.com/invitation"
cors_allowed_origins = ["https://app.example.com"]
seller_name          = "Faregate"
seller_address       = ""

alert_emails     = ["operations@example.com"]
budget_per_month = 500
