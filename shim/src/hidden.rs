//! Symbols that are nobody's business.
//!
//! What Rust exports for C++ by name (cxx's runtime, and the callbacks of the SAT solver) would be exported by the library too, and take
//! the place of the same names in libraries that the program loads. A symbol has the least visibility that any object
//! gives it, so they are named once more here, as hidden.

use std::arch::global_asm;

/// Hides the symbols `cxxbridge1$A$B` for each `A` and `B`; those that nobody defines do not matter.
macro_rules! hide {
    ($($first:literal: $second:tt),* $(,)?) => { $(hide!(@one $first $second);)* };
    (@each [$($first:literal)*] $second:tt) => { $(hide!(@one $first $second);)* };
    (@one $first:literal [$($second:literal)*]) => {
        global_asm!($(
            concat!(".weak \"cxxbridge1$", $first, $second, "\""),
            concat!(".hidden \"cxxbridge1$", $first, $second, "\""),
        )*);
    };
}

hide!(@each [
    "rust_vec$bool$" "rust_vec$char$" "rust_vec$f32$" "rust_vec$f64$" "rust_vec$i8$" "rust_vec$i16$" "rust_vec$i32$"
    "rust_vec$i64$" "rust_vec$isize$" "rust_vec$u8$" "rust_vec$u16$" "rust_vec$u32$" "rust_vec$u64$" "rust_vec$usize$"
    "rust_vec$str$" "rust_vec$string$"
] ["capacity" "data_const" "data_mut" "drop" "len" "new" "reserve_total" "set_len" "truncate"]);

hide! {
    "": ["exception"],
    "slice$": ["len" "new" "ptr"],
    "str$": ["from" "len" "new" "ptr" "ref"],
    "string$": [
        "capacity" "clone" "drop" "from_utf16" "from_utf16_lossy" "from_utf8" "from_utf8_lossy" "len" "new"
        "ptr_const" "ptr_mut" "reserve_additional" "reserve_total"
    ],
    // The number is that of cxx's release.
    "205$new_clause_iterator$": ["clause$1"],
    "205$new_external_propagator$": [
        "cb_add_external_clause_lit$1" "cb_add_reason_clause_lit$1" "cb_check_found_model$1" "cb_decide$1"
        "cb_has_external_clause$1" "cb_propagate$1" "notify_assignment$1" "notify_backtrack$1"
        "notify_new_decision_level$1"
    ],
    "205$new_fixed_assignment_listener$": ["fixed$1"],
    "205$new_learner$": ["learn$1" "learning$1"],
    "205$new_terminator$": ["terminate$1"],
    "205$new_tracer$": [
        "add_assumption$1" "add_assumption_clause$1" "add_constraint$1" "add_derived_clause$1" "add_original_clause$1"
        "begin_proof$1" "conclude_sat$1" "conclude_unknown$1" "conclude_unsat$1" "delete_clause$1" "demote_clause$1"
        "finalize_clause$1" "notify_equivalence$1" "report_status$1" "reset_assumptions$1" "solve_query$1"
        "strengthen$1" "weaken_minus$1"
    ],
    "205$new_witness_iterator$": ["witness$1"],
}
