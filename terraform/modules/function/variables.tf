variable "name" {
  description = "The function's name in the cloud."
  type        = string
  nullable    = false

  # fg- and this is the service account's id, which has at most 30 characters.
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,26}$", var.name))
    error_message = "A name has 3 to 27 lower-case letters, digits and dashes."
  }
}

variable "region" {
  description = "Where it runs."
  type        = string
  nullable    = false
}

variable "image" {
  description = "The container image, by digest."
  type        = string
  nullable    = false
}

variable "environment" {
  description = "Its settings that are no secrets."
  type        = map(string)
  nullable    = false
}

variable "secrets" {
  description = "Its settings that are: the id of the secret and the version."
  type        = map(object({ id = string, version = string }))
  nullable    = false
}

variable "invoker" {
  description = "The one member that Cloud Run lets in."
  type        = string
  nullable    = false
}

variable "ingress" {
  description = "From where it can be reached at all."
  type        = string
  nullable    = false

  validation {
    condition     = contains(["INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER", "INGRESS_TRAFFIC_INTERNAL_ONLY"], var.ingress)
    error_message = "A function is behind the front or internal, never open."
  }
}

variable "is_probed" {
  description = "Whether an instance must tell that it reaches the database before it is called."
  type        = bool
  nullable    = false
}

variable "cpu" {
  description = "Cores of an instance."
  type        = string
  nullable    = false
}

variable "memory_mb" {
  description = "Memory of an instance in MiB."
  type        = number
  nullable    = false

  validation {
    condition     = var.memory_mb >= 512 && var.memory_mb <= 4096
    error_message = "An instance has 512 to 4096 MiB: less is not enough, more is a mistake."
  }
}

variable "concurrency" {
  description = "Requests that an instance works on at a time."
  type        = number
  nullable    = false

  validation {
    condition     = var.concurrency >= 1 && var.concurrency <= 250
    error_message = "An instance works on 1 to 250 requests at a time."
  }
}

variable "timeout_seconds" {
  description = "After how long a request is given up."
  type        = number
  nullable    = false

  validation {
    condition     = var.timeout_seconds >= 10 && var.timeout_seconds <= 3600
    error_message = "A request is given up after 10 to 3600 seconds."
  }
}

variable "min_instances" {
  description = "Instances that are there, and paid for, when nobody calls."
  type        = number
  nullable    = false

  validation {
    condition     = var.min_instances >= 0 && var.min_instances <= 5
    error_message = "At most 5 instances are kept for nobody."
  }
}

variable "max_instances" {
  description = "Instances at most: what an attack can cost, and how many connections the database gets."
  type        = number
  nullable    = false

  validation {
    condition     = var.max_instances >= 1 && var.max_instances <= 50
    error_message = "A function has 1 to 50 instances at most."
  }
}
