//! An order as merchants see it: the one place that writes it as JSON, for answers and webhooks.
