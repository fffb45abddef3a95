//! Sluice's programs for the kernel.
#![no_std]
#![no_main]
