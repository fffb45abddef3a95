//! End to end: real packets through namespaces.
