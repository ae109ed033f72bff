//! Preload library: catches the libc entry points through which a program reaches bpf(2).
