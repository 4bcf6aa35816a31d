"""The load balancer, and the catalog that all programs of consul-edge share."""
