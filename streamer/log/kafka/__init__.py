"""A log on Apache Kafka."""
