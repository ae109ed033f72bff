//! CaDiCaL is written in C++. Its runtime library becomes part of what is built here, so that the preload library works in processes and
//! containers that have no C++ runtime, and does not bring another one into those that have.
//!
//! The linker takes what it finds first: a folder that holds the static library alone, searched before the compiler's own.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CXX");
    let Some(library) = static_runtime() else {
        println!("cargo:warning=no static libstdc++ here: what is built needs the shared one");
        return;
    };
    let Some(folder) = std::env::var_os("OUT_DIR").map(|out| PathBuf::from(out).join("static")) else {
        return;
    };
    let link = folder.join("libstdc++.a");
    let _ = std::fs::remove_file(&link);
    let linked = std::fs::create_dir_all(&folder).and_then(|()| std::os::unix::fs::symlink(&library, &link));
    match linked {
        Ok(()) => println!("cargo:rustc-link-search=native={}", folder.display()),
        Err(error) => println!("cargo:warning={} cannot be made: {error}", link.display()),
    }
}

/// The C++ compiler's static runtime library; none where the system installs only the shared one.
fn static_runtime() -> Option<PathBuf> {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let output = Command::new(compiler).arg("-print-file-name=libstdc++.a").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    // A name without a folder is the compiler's answer for a file that it does not find.
    let path = Path::new(text.trim());
    (path.is_absolute() && path.exists()).then(|| path.to_path_buf())
}
