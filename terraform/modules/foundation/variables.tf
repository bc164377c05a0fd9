variable "project" {
  description = "The project."
  type        = string
  nullable    = false
}

variable "region" {
  description = "Where the source and the images are."
  type        = string
  nullable    = false
}

variable "secret_ids" {
  description = "Which secrets there are."
  type        = set(string)
  nullable    = false
}
