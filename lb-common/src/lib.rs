#![no_std]
//! What the XDP programs and userspace share: map keys and values, and the pure packet code.
