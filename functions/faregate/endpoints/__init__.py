"""HTTP functions that customers and the payment provider call, one file each."""
