//! Finds the compiler and linker for the BPF target and builds lb-ebpf with them.
