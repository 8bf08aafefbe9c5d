//! A replica: actors around the store, gRPC services, and the library that applications embed.
